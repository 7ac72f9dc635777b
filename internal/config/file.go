package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxFile is how long a configuration file may be, in bytes: room for tens of
// thousands of VNIs.
const MaxFile = 8 << 20

// File is a configuration file as read.
type File struct {
	Name string
	Top  Values   // for every VNI that does not say otherwise
	VNIs []Values // in their order
}

// ReadFile reads a configuration file.
func ReadFile(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(name, b)
}

// Parse reads what a file of this name has in it: YAML, of which only the keys of
// Options are understood, without anchors and tags. Errors are of type *Error.
func Parse(name string, b []byte) (*File, error) {
	p := &fileParser{name: name}
	if len(b) > MaxFile {
		return nil, p.errorf(nil, "the file is longer than %d MB, which no configuration is", MaxFile>>20)
	}
	if !utf8.Valid(b) {
		return nil, p.errorf(nil, "the file is no text (UTF-8)")
	}
	tokens := lexer.Tokenize(string(b))
	if err := p.plain(tokens); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return nil, p.errorf(syntax.GetToken(), "%s", syntax.GetMessage())
		}
		return nil, p.errorf(nil, "%s", strings.SplitN(err.Error(), "\n", 2)[0])
	}
	file := &File{Name: name, Top: Values{}}
	var body ast.Node
	for _, d := range tree.Docs {
		switch {
		case d.Body == nil:
		case body != nil:
			return nil, p.errorf(d.Body.GetToken(), "a second document begins here; one file has one")
		default:
			body = d.Body
		}
	}
	if body == nil {
		return file, nil
	}
	return file, p.top(body, file)
}

type fileParser struct{ name string }

func (p *fileParser) place(t *token.Token) Place {
	at := Place{File: p.name, Line: 1, Column: 1}
	if t != nil && t.Position != nil {
		at.Line, at.Column = t.Position.Line, t.Position.Column
	}
	return at
}

func (p *fileParser) errorf(t *token.Token, format string, args ...any) error {
	return &Error{Place: p.place(t), Text: fmt.Sprintf(format, args...)}
}

// mostDepth is how deep a file nests. What is deeper costs the parser more than
// it is worth.
const mostDepth = 32

// plain refuses the parts of YAML that a configuration has no use for.
func (p *fileParser) plain(tokens token.Tokens) error {
	depth, line, marks := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, marks = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
			return p.errorf(t, "%q: anchors, tags, merges, complex keys and directives have no meaning here; put text in quotes", t.Value)
		case token.SequenceEntryType, token.MappingValueType:
			if depth == 0 {
				marks++
			}
		}
		if n := t.Next; t.Type == token.SequenceEntryType && n != nil && n.Type == t.Type && n.Position.Column == t.Position.Column {
			return p.errorf(t, "this element of a list is empty")
		}
		if depth > mostDepth || marks > mostDepth || t.Position.IndentNum > 8*mostDepth {
			return p.errorf(t, "this is nested deeper than any configuration")
		}
	}
	return nil
}

// top reads the whole.
func (p *fileParser) top(body ast.Node, file *File) error {
	entries, err := p.mapping(body, "the file")
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, e := range entries {
		key := e.Key.GetToken().Value
		if key == "vnis" {
			if err := p.vnis(e, file); err != nil {
				return err
			}
			continue
		}
		o, err := p.option(e, seen, false)
		if err != nil {
			return err
		}
		if file.Top[o.Name], err = p.value(o, e.Value); err != nil {
			return err
		}
	}
	return nil
}

// vnis reads the list of VNIs.
func (p *fileParser) vnis(e *ast.MappingValueNode, file *File) error {
	if null(e.Value) {
		return nil
	}
	list, ok := e.Value.(*ast.SequenceNode)
	if !ok {
		return p.errorf(e.Value.GetToken(), "vnis is a list: begin each VNI with \"- vni: N\"")
	}
	for _, item := range list.Values {
		entries, err := p.mapping(item, "a VNI")
		if err != nil {
			return err
		}
		values, seen := Values{}, make(map[string]bool)
		for _, e := range entries {
			o, err := p.option(e, seen, true)
			if err != nil {
				return err
			}
			if values[o.Name], err = p.value(o, e.Value); err != nil {
				return err
			}
		}
		if len(values["vni"].Texts) == 0 && len(values["vlan-map"].Texts) == 0 {
			return p.errorf(start(item), "this VNI has no number: add \"vni: N\"")
		}
		file.VNIs = append(file.VNIs, values)
	}
	return nil
}

// mapping returns the entries of a mapping.
func (p *fileParser) mapping(n ast.Node, what string) ([]*ast.MappingValueNode, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, p.errorf(n.GetToken(), "%q: %s has lines such as \"key: value\"", n.GetToken().Value, what)
}

// option finds what a key is about.
func (p *fileParser) option(e *ast.MappingValueNode, seen map[string]bool, ofVNI bool) (*Option, error) {
	t := e.Key.GetToken()
	key := t.Value
	for i := range Options {
		o := &Options[i]
		if o.FlagOnly || key != o.key() && key != o.Alias && key != o.Name {
			continue
		}
		switch {
		case ofVNI && !o.ofVNI():
			return nil, p.errorf(t, "%s is for the endpoint as a whole: put it at the top of the file", key)
		case !ofVNI && o.Scope == OfOne:
			return nil, p.errorf(t, "%s is for one VNI: put it below \"vnis:\", beside its \"vni:\"", key)
		case seen[o.Name]:
			return nil, p.errorf(t, "%s is there twice", key)
		}
		seen[o.Name] = true
		return o, nil
	}
	known := []string{}
	for i := range Options {
		if o := &Options[i]; !o.FlagOnly && (!ofVNI && o.Scope != OfOne || ofVNI && o.ofVNI()) {
			known = append(known, o.key())
		}
	}
	if !ofVNI {
		known = append(known, "vnis")
	}
	if near := nearest(key, known); near != "" {
		return nil, p.errorf(t, "there is no key %q: did you mean %q?", key, near)
	}
	return nil, p.errorf(t, "there is no key %q", key)
}

// value reads the value of an option.
func (p *fileParser) value(o *Option, n ast.Node) (Value, error) {
	if o.Kind != List {
		text, err := p.scalar(o, o.Kind, n)
		return Value{Texts: []string{text}, Places: []Place{p.place(n.GetToken())}}, err
	}
	v := Value{Places: []Place{p.place(start(n))}}
	items := []ast.Node{n}
	switch n := n.(type) {
	case *ast.SequenceNode:
		items = n.Values
	case *ast.MappingNode, *ast.MappingValueNode:
		if !o.Pairs {
			break
		}
		// VID: VNI, one a line.
		entries, err := p.mapping(n, o.key())
		if err != nil {
			return v, err
		}
		items = nil
		for _, e := range entries {
			items = append(items, e)
		}
	}
	for i, item := range items {
		text, err := p.element(o, item)
		if err != nil {
			return v, err
		}
		v.Texts = append(v.Texts, text)
		if at := p.place(start(item)); i == 0 {
			v.Places[0] = at
		} else {
			v.Places = append(v.Places, at)
		}
	}
	return v, nil
}

// element reads one of a list: a text, or a mapping of the option's fields.
func (p *fileParser) element(o *Option, n ast.Node) (string, error) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		return p.scalar(o, Text, n)
	}
	if len(o.Fields) == 0 {
		return "", p.errorf(start(n), "%s is a list of texts, and this is a mapping: put it in quotes", o.key())
	}
	entries, err := p.mapping(n, o.key())
	if err != nil {
		return "", err
	}
	if o.Pairs && len(entries) == 1 && !slices.Contains(o.Fields, entries[0].Key.GetToken().Value) {
		e := entries[0]
		right, err := p.scalar(o, Text, e.Value)
		return e.Key.GetToken().Value + "=" + right, err
	}
	parts := make([]string, len(o.Fields))
	given := make([]bool, len(o.Fields))
	for _, e := range entries {
		t := e.Key.GetToken()
		i := slices.Index(o.Fields, t.Value)
		if i < 0 {
			if near := nearest(t.Value, o.Fields); near != "" {
				return "", p.errorf(t, "%s has no field %q: did you mean %q?", o.key(), t.Value, near)
			}
			return "", p.errorf(t, "%s has no field %q: there are %s", o.key(), t.Value, strings.Join(o.Fields, ", "))
		}
		if given[i] {
			return "", p.errorf(t, "%s is there twice", t.Value)
		}
		if parts[i], err = p.scalar(o, Text, e.Value); err != nil {
			return "", err
		}
		if strings.Contains(parts[i], "=") {
			return "", p.errorf(e.Value.GetToken(), "%s %q: there is no equals sign in it", t.Value, parts[i])
		}
		given[i] = true
	}
	for i := range o.Needed {
		if !given[i] {
			return "", p.errorf(start(n), "%s: %q is missing", o.key(), o.Fields[i])
		}
	}
	return strings.TrimRight(strings.Join(parts, "="), "="), nil
}

// scalar reads a single value.
func (p *fileParser) scalar(o *Option, k Kind, n ast.Node) (string, error) {
	t := n.GetToken()
	ok := false
	switch n.(type) {
	case *ast.IntegerNode:
		ok = k != Bool && (k != Duration || t.Value == "0")
	case *ast.BoolNode:
		ok = k == Bool || k == Text
	case *ast.StringNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		ok = k == Text || k == Duration
	case *ast.NullNode:
		return "", p.errorf(t, "%s has no value: give %s, or leave it out", o.key(), k)
	}
	if ok && k.check(t.Value) == nil {
		return t.Value, nil
	}
	want := kindExamples[k]
	if want == "" {
		want = "one line of text"
	}
	return "", p.errorf(t, "%s %q: this takes %s", o.key(), t.Value, want)
}

// start is where a node begins; that of a mapping is not where its own token is.
func start(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

func null(n ast.Node) bool {
	_, ok := n.(*ast.NullNode)
	return ok
}
