package top

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vxlan"
)

// Ask asks an endpoint, for all VNIs or for some.
type Ask func(ctx context.Context, only ...vxlan.VNI) (control.Status, error)

// Run shows the endpoint on the terminal until the user has enough or ctx is
// done, and gives the terminal back as it was. It fails if the endpoint cannot be
// asked at the start; one that goes away later is waited for.
func Run(ctx context.Context, cfg Config, ask Ask, in, out *os.File) error {
	m := &model{ctx: ctx, ask: ask, screen: NewScreen(cfg), now: time.Now()}
	first := m.question(0, m.screen.Only())().(answer)
	if first.err != nil {
		return first.err
	}
	m.screen.Take(first.sample)
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil
	}
	return err
}

// Once writes what the screen would show after one interval, as a text of so many
// columns.
func Once(ctx context.Context, cfg Config, ask Ask, w io.Writer, width int) error {
	screen := NewScreen(cfg)
	screen.Plain = true
	var at time.Time
	for i := range 2 {
		if i > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(cfg.Interval):
			}
		}
		at = time.Now()
		s, err := ask(ctx, screen.Only()...)
		if err != nil {
			return err
		}
		screen.Take(&Sample{s, at})
	}
	_, err := io.WriteString(w, screen.Paint(width, 0, at)+"\n")
	return err
}

// model puts a Screen into Bubble Tea.
type model struct {
	ctx    context.Context
	ask    Ask
	screen *Screen
	now    time.Time
	w, h   int
	// due is the question that is waited for; others are outdated.
	due int
}

// answer is what came of a question.
type answer struct {
	due    int
	sample *Sample
	took   time.Duration
	err    error
}

// wake says that it is time for a question.
type wake struct{ due int }

// question asks, and waits for the answer.
func (m *model) question(due int, only []vxlan.VNI) tea.Cmd {
	return func() tea.Msg {
		begin := time.Now()
		s, err := m.ask(m.ctx, only...)
		return answer{due, &Sample{s, begin}, time.Since(begin), err}
	}
}

// next asks after a while.
func (m *model) next(after time.Duration) tea.Cmd {
	m.due++
	due := m.due
	return tea.Tick(after, func(time.Time) tea.Msg { return wake{due} })
}

func (m *model) Init() tea.Cmd { return m.next(m.screen.Wait(0)) }

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m.now = time.Now()
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if msg.String() == "ctrl+z" {
			return m, tea.Suspend
		}
		quit, ask := m.screen.Press(msg.String())
		if quit {
			return m, tea.Quit
		}
		if ask {
			return m, m.next(0)
		}
	case wake:
		if msg.due != m.due || m.screen.Paused() {
			return m, nil
		}
		return m, m.question(msg.due, m.screen.Only())
	case answer:
		if msg.due != m.due || m.screen.Paused() {
			return m, nil
		}
		if msg.err != nil {
			m.screen.Fail(msg.err, m.now)
		} else {
			m.screen.Take(msg.sample)
		}
		return m, m.next(m.screen.Wait(msg.took))
	}
	return m, nil
}

func (m *model) View() tea.View {
	v := tea.NewView(m.screen.Paint(m.w, m.h, m.now))
	v.AltScreen = true
	return v
}
