package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagMeant says which flag of a command was meant, if err is of one that it
// does not have.
func flagMeant(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	// -vni is taken for three flags of one letter.
	name := unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); len(short) > 1 {
		name, _, _ = strings.Cut(short, "=")
	}
	return didYouMean("--"+name, names)
}

// commandMeant says which command below cmd was meant.
func commandMeant(cmd *cobra.Command, typed string) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(append(names, c.Name()), c.Aliases...)
		}
	}
	return didYouMean(typed, names)
}

// didYouMean names the candidates nearest to what was typed, if they are near
// enough to have been meant: as ": did you mean A or B?".
func didYouMean(typed string, candidates []string) string {
	typed = strings.ToLower(typed)
	letters := len(strings.TrimLeft(typed, "-"))
	if letters == 0 {
		return ""
	}
	best := min(1+letters/4, 3) // mistakes
	var near []string
	for _, c := range candidates {
		d := distance(typed, strings.ToLower(c))
		if letters > 2 && strings.HasPrefix(strings.ToLower(c), typed) {
			d = min(d, 1) // begun, not finished
		}
		if d < best {
			best, near = d, nil
		}
		if d == best {
			near = append(near, c)
		}
	}
	if len(near) == 0 || len(near) > 3 {
		return ""
	}
	slices.Sort(near)
	return ": did you mean " + strings.Join(near, " or ") + "?"
}

// distance is how many letters have to be put in, left out, exchanged, or swapped
// with the next one to make b of a (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			row[j+1] = min(d, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
