package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Place is where a value was written; the zero value is a flag.
type Place struct {
	File         string
	Line, Column int
}

// Error says what is wrong with the value of an option.
type Error struct {
	Place
	Option string // its name; "" when it is not about one
	Text   string
}

func (e *Error) Error() string {
	name := e.Option
	if e.File == "" {
		return "--" + name + " " + e.Text
	}
	at := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if name == "" {
		return at + e.Text
	}
	return at + option(name).key() + " " + e.Text
}

// IsUsage says whether an error is about a flag: wrong usage, as against a wrong
// file.
func IsUsage(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.File == ""
}

// Value is what was written for an option.
type Value struct {
	Texts  []string
	Places []Place // of each text; of a list that is empty, one
}

// Values are those of a flag set, of the top of a file, or of one of its VNIs,
// by the option's name.
type Values map[string]Value

// View looks values up in layers, of which the first wins. What none has is the
// option's default.
type View []Values

// given returns the value that wins, if there is one.
func (v View) given(name string) (Value, bool) {
	for _, layer := range v {
		if value, ok := layer[name]; ok {
			return value, true
		}
	}
	return Value{}, false
}

// Given says whether somebody chose a value.
func (v View) Given(name string) bool {
	_, ok := v.given(name)
	return ok
}

// Text is the value of an option as written, or its default.
func (v View) Text(name string) string {
	o := option(name)
	if value, ok := v.given(name); ok && len(value.Texts) > 0 {
		return value.Texts[0]
	}
	return o.Default
}

// List is the value of a List.
func (v View) List(name string) []string {
	value, _ := v.given(name)
	return slices.Clone(value.Texts)
}

// Bool is the value of a Bool.
func (v View) Bool(name string) bool {
	yes, err := strconv.ParseBool(v.Text(name))
	return err == nil && yes // flags and files hold what ParseBool reads
}

// number is that of a Number within bounds.
func (v View) number(name string, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(v.Text(name), 0, 64)
	if err != nil || n < lo || n > hi {
		return 0, v.Errorf(name, "%s: give %d to %d", v.Text(name), lo, hi)
	}
	return n, nil
}

// duration is that of a Duration.
func (v View) duration(name string) time.Duration {
	d, _ := time.ParseDuration(v.Text(name)) // checked as that of Bool
	return d
}

// Errorf is an error about an option, with the place of its value.
func (v View) Errorf(name, format string, args ...any) error {
	return v.errorAt(name, 0, format, args...)
}

// errorAt is the same about one text of a list.
func (v View) errorAt(name string, i int, format string, args ...any) error {
	e := &Error{Option: name, Text: fmt.Sprintf(format, args...)}
	if value, ok := v.given(name); ok && len(value.Places) > 0 {
		e.Place = value.Places[min(i, len(value.Places)-1)]
	}
	return e
}

// check says whether text can be a value of this kind.
func (k Kind) check(text string) error {
	var err error
	switch k {
	case Bool:
		_, err = strconv.ParseBool(text)
	case Number:
		_, err = strconv.ParseInt(text, 0, 64)
	case Duration:
		_, err = time.ParseDuration(text)
	}
	if err != nil {
		return fmt.Errorf("%q is not %s", text, kindExamples[k])
	}
	return nil
}

var kindExamples = map[Kind]string{Bool: "true or false", Number: "a number", Duration: "a duration such as 300s or 50us"}
