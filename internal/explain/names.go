package explain

// Name says of each address whose it is: names are by MAC and IP addresses, as they are
// written in lower case. The summary has those of the innermost packet as its comment,
// if there is no other.
func (e *Explanation) Name(names map[string]string) {
	if len(names) == 0 {
		return
	}
	var from, to string
	for i := range e.Layers {
		for j := range e.Layers[i].Fields {
			f := &e.Layers[i].Fields[j]
			name, ok := names[f.Text]
			if !ok {
				continue
			}
			if f.Meaning != "" {
				name = f.Meaning + ", " + name
			}
			f.Meaning = name
			switch f.Name {
			case "source":
				from = names[f.Text]
			case "destination":
				to = names[f.Text]
			}
		}
	}
	if e.Comment == "" && (from != "" || to != "") {
		e.Comment = orUnknown(from) + " > " + orUnknown(to)
	}
}

func orUnknown(name string) string {
	if name == "" {
		return "?"
	}
	return name
}
