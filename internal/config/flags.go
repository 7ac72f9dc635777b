package config

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/pflag"
)

// AddFlags makes flags of all options, or of those alone that a VNI may have of
// its own, and returns where what was typed will be.
func AddFlags(fs *pflag.FlagSet, ofVNIAlone bool) Values {
	values := make(Values)
	for i := range Options {
		o := &Options[i]
		if ofVNIAlone && !o.ofVNI() {
			continue
		}
		f := fs.VarPF(&flag{o, values}, o.Name, "", o.Usage)
		if o.Kind == Bool {
			f.NoOptDefVal = "true"
		}
	}
	return values
}

// flag is an option as a flag.
type flag struct {
	option *Option
	values Values
}

func (f *flag) String() string {
	if f.option == nil {
		return ""
	}
	return f.option.Default
}

func (f *flag) Type() string {
	return [...]string{Text: "string", Bool: "bool", Number: "int", Duration: "duration", List: "strings"}[f.option.Kind]
}

// Set takes what was typed. Of a list each use adds to it.
func (f *flag) Set(text string) error {
	o := f.option
	if o.Kind != List {
		if err := o.Kind.check(text); err != nil {
			return err
		}
		f.values[o.Name] = Value{Texts: []string{text}}
		return nil
	}
	v := f.values[o.Name]
	if text != "" {
		list, err := csv.NewReader(strings.NewReader(text)).Read()
		if err != nil {
			return err
		}
		v.Texts = append(v.Texts, list...)
	}
	f.values[o.Name] = v
	return nil
}

// Words are the flags that give these values again, as they are typed, in the
// order of Options; those alone that a VNI may have of its own.
func (v Values) Words() []string {
	var words []string
	for i := range Options {
		o := &Options[i]
		value, ok := v[o.Name]
		if !ok || !o.ofVNI() || o.Name == "vni" {
			continue
		}
		for _, text := range value.Texts {
			switch {
			case o.Kind == Bool && text == "true":
				words = append(words, "--"+o.Name)
			case o.Kind == Bool:
				words = append(words, "--"+o.Name+"="+text)
			default:
				words = append(words, "--"+o.Name, quote(text))
			}
		}
	}
	return words
}

// quote is a word as a shell wants it.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/=,_-%+@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// FromWords makes values of what a request says of a VNI, by the names of the
// flags.
func FromWords(words map[string][]string) (Values, error) {
	values := make(Values)
	for name, texts := range words {
		i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name && o.ofVNI() })
		if i < 0 {
			return nil, fmt.Errorf("there is no option %q of a VNI", name)
		}
		o := &Options[i]
		if o.Kind != List && len(texts) != 1 {
			return nil, &Error{Option: name, Text: fmt.Sprintf("has %d values: give one", len(texts))}
		}
		for _, text := range texts {
			if err := o.Kind.check(text); err != nil {
				return nil, &Error{Option: name, Text: err.Error()}
			}
		}
		values[name] = Value{Texts: texts}
	}
	return values, nil
}

// ToWords is the reverse of FromWords.
func (v Values) ToWords() map[string][]string {
	words := make(map[string][]string)
	for name, value := range v {
		if option(name).ofVNI() {
			words[name] = value.Texts
		}
	}
	return words
}

// Check says what is wrong with the flags of a VNI, as far as that can be known
// without the endpoint that it is for.
func (v Values) Check() error {
	e := &Endpoint{Port: vxlan.Port, Queues: mostQueues, Dev: View{v}.Text("dev")}
	if e.Dev == "" {
		e.Dev = "?" // the endpoint may have one
	}
	_, err := newSpec(View{v, Values{"dev": {Texts: []string{e.Dev}}}}, e)
	return err
}
