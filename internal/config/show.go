package config

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// Shown is a configuration to be shown: with all defaults, as a file that says
// the same again, or as JSON.
type Shown struct {
	*Config
	// Now says what holds for an option without a value, as in "1450"; nil
	// for the endpoint as a whole. Optional.
	Now func(s *Spec, option string) string
}

// YAML is the form of a configuration file.
func (c *Shown) YAML() []byte {
	var b bytes.Buffer
	for i := range Options {
		if o := &Options[i]; (o.Scope == OfEndpoint || o.Scope == OfBoth) && !o.FlagOnly {
			b.WriteString(c.line(nil, c.Endpoint.View, o))
		}
	}
	if len(c.Specs) == 0 {
		b.WriteString("vnis: []\n")
		return b.Bytes()
	}
	b.WriteString("vnis:\n")
	for _, s := range c.Specs {
		indent := "  - "
		for i := range Options {
			o := &Options[i]
			if !o.shownOf(s) {
				continue
			}
			if o.Name == "vni" && s.NoNative {
				continue // its number is one of vlan-map
			}
			for line := range strings.Lines(c.line(s, s.View, o)) {
				if indent == "  - " && strings.HasPrefix(line, "#") {
					continue // an element cannot begin with a comment
				}
				b.WriteString(indent + line)
				indent = "    "
			}
		}
	}
	return b.Bytes()
}

// shownOf says whether an option is shown of a VNI.
func (o *Option) shownOf(s *Spec) bool {
	// proxy is another word for a value of arp.
	return o.ofVNI() && !o.FlagOnly && o.Name != "proxy"
}

// text is the value of an option that is no list.
func (o *Option) text(s *Spec, v View) string {
	if s != nil && o.Name == "arp" {
		return s.ARP.Mode.String()
	}
	return v.Text(o.Name)
}

// line is an option in YAML; a list of mappings takes several lines, and what
// has no value is a comment that says what holds instead.
func (c *Shown) line(s *Spec, v View, o *Option) string {
	if o.Kind == List {
		return listLines(o, v.List(o.Name))
	}
	text := o.text(s, v)
	note := ""
	if text == "" || text == o.Default && o.Derived != "" {
		note = o.Derived
		if c.Now != nil {
			if now := c.Now(s, o.Name); now != "" {
				note = strings.TrimSuffix("now "+now+"; "+note, "; ")
			}
		}
	}
	switch {
	case text == "" && note == "":
		return "# " + o.key() + ":\n"
	case text == "":
		return "# " + o.key() + ": " + note + "\n"
	case note != "":
		return o.key() + ": " + scalar(o, text) + " # " + note + "\n"
	}
	return o.key() + ": " + scalar(o, text) + "\n"
}

func listLines(o *Option, list []string) string {
	if len(o.Fields) == 0 || len(list) == 0 {
		words := make([]string, len(list))
		for i, text := range list {
			words[i] = scalar(o, text)
		}
		if len(list) == 0 {
			// What is empty by choice and by default is the same, but for a
			// list that must not be empty.
			return "# " + o.key() + ": none\n"
		}
		return o.key() + ": [" + strings.Join(words, ", ") + "]\n"
	}
	var b strings.Builder // there may be tens of thousands
	b.WriteString(o.key() + ":\n")
	for _, text := range list {
		var fields []string
		for i, part := range strings.SplitN(text, "=", len(o.Fields)) {
			if part != "" {
				fields = append(fields, o.Fields[i]+": "+scalar(o, part))
			}
		}
		b.WriteString("  - {" + strings.Join(fields, ", ") + "}\n")
	}
	return b.String()
}

// bare is what YAML reads as it stands.
var bare = regexp.MustCompile(`^[0-9A-Za-z/][0-9A-Za-z._/-]*$`)

// scalar is a text in YAML, in quotes where it could be taken for something else.
func scalar(o *Option, text string) string {
	if o.Kind == Text || o.Kind == List {
		switch strings.ToLower(text) {
		case "null", "~":
			return strconv.Quote(text)
		}
		if !bare.MatchString(text) {
			var b strings.Builder
			e := json.NewEncoder(&b) // its strings are those of YAML too
			e.SetEscapeHTML(false)
			if e.Encode(text) == nil {
				return strings.TrimSuffix(b.String(), "\n")
			}
		}
	}
	return text
}

// MarshalJSON is an object with the keys of a file.
func (c *Shown) MarshalJSON() ([]byte, error) {
	all := make(map[string]any)
	for i := range Options {
		if o := &Options[i]; (o.Scope == OfEndpoint || o.Scope == OfBoth) && !o.FlagOnly {
			all[o.key()] = o.json(nil, c.Endpoint.View)
		}
	}
	vnis := []map[string]any{}
	for _, s := range c.Specs {
		one := make(map[string]any)
		for i := range Options {
			if o := &Options[i]; o.shownOf(s) && (o.Name != "vni" || !s.NoNative) {
				one[o.key()] = o.json(s, s.View)
			}
		}
		vnis = append(vnis, one)
	}
	all["vnis"] = vnis
	return json.Marshal(all)
}

// json is the value of an option; nil where there is none.
func (o *Option) json(s *Spec, v View) any {
	if o.Kind == List {
		list := []any{}
		for _, text := range v.List(o.Name) {
			if len(o.Fields) == 0 {
				list = append(list, text)
				continue
			}
			fields := make(map[string]string)
			for i, part := range strings.SplitN(text, "=", len(o.Fields)) {
				if part != "" {
					fields[o.Fields[i]] = part
				}
			}
			list = append(list, fields)
		}
		return list
	}
	text := o.text(s, v)
	switch o.Kind {
	case Bool:
		return v.Bool(o.Name)
	case Number:
		if n, err := strconv.ParseInt(text, 0, 64); err == nil {
			return n
		}
	}
	if text == "" {
		return nil
	}
	return text
}

// String is the form of a file.
func (c *Shown) String() string { return string(c.YAML()) }
