package docs_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/govxlan/govxlan/internal/metrics"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

var update = flag.Bool("update", false, "write the tables that come from the code anew")

// metricsTable is what docs/metrics.md shows between its marks.
func metricsTable() string {
	var b strings.Builder
	b.WriteString("| metric | kind | labels | what it is |\n|---|---|---|---|\n")
	for _, f := range metrics.Families() {
		kind := "gauge"
		if f.Counter {
			kind = "counter"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, kind, strings.Join(f.Labels, ", "), f.Help)
	}
	return b.String()
}

// TestMetricsPage: the table of metrics is that of the code. After a change, go
// test ./docs -run TestMetricsPage -update writes it.
func TestMetricsPage(t *testing.T) {
	const page, begin, end = "metrics.md", "<!-- metrics: from the code -->\n", "<!-- end of metrics -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no marks %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+metricsTable()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(metricsTable(), table); diff != "" {
		t.Errorf("the code (-), the page (+):\n%s\nto write it: go test ./docs -run TestMetricsPage -update", diff)
	}
}

// nothing is an endpoint without anything.
type nothing struct{}

func (nothing) Status(...vxlan.VNI) vtep.Status { return vtep.Status{} }

// metricLabels are the labels of every metric that an endpoint can serve: ours,
// and those of the process as they are really served.
var metricLabels = func() map[string][]string {
	w := httptest.NewRecorder()
	metrics.NewHandler(metrics.Config{Source: nothing{}}).ServeHTTP(w, httptest.NewRequest("GET", metrics.Path, nil))
	p := expfmt.NewTextParser(model.LegacyValidation)
	served, err := p.TextToMetricFamilies(w.Body)
	if err != nil {
		panic(err)
	}
	all := map[string][]string{"up": nil} // which Prometheus makes itself
	for name := range served {
		all[name] = nil
	}
	for _, f := range metrics.Families() {
		all[f.Name] = f.Labels
	}
	return all
}()

// scraped are the labels that Prometheus adds to everything.
var scraped = []string{"instance", "job"}

// checkQuery checks that a query parses, asks for metrics and labels that there
// are, and returns the labels of its result.
func checkQuery(t *testing.T, where, query string) []string {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %q: %v", where, query, err)
		return nil
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		labels, ok := metricLabels[v.Name]
		if !ok {
			t.Errorf("%s: there is no metric %q", where, v.Name)
		}
		for _, m := range v.LabelMatchers {
			if m.Name != "__name__" && !slices.Contains(labels, m.Name) && !slices.Contains(scraped, m.Name) {
				t.Errorf("%s: %s has no label %q", where, v.Name, m.Name)
			}
		}
		return nil
	})
	return resultLabels(expr)
}

// resultLabels are the labels of what a query returns.
func resultLabels(e parser.Expr) []string {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return append(slices.Clone(metricLabels[e.Name]), scraped...)
	case *parser.AggregateExpr:
		if e.Op == parser.TOPK {
			return resultLabels(e.Expr)
		}
		return e.Grouping
	case *parser.BinaryExpr:
		if l := resultLabels(e.LHS); l != nil {
			return l
		}
		return resultLabels(e.RHS)
	case *parser.Call:
		return resultLabels(e.Args[0])
	case *parser.MatrixSelector:
		return resultLabels(e.VectorSelector)
	case *parser.ParenExpr:
		return resultLabels(e.Expr)
	}
	return nil
}

// TestQueryChecksBite: what checkQuery is to find, it finds.
func TestQueryChecksBite(t *testing.T) {
	for query, labels := range map[string]string{
		`sum by (vni) (rate(govxlan_rx_frames_total[5m]))`:   "vni",
		`8 * topk(3, rate(govxlan_peer_rx_bytes_total[5m]))`: "vni vtep instance job",
		`govxlan_up`: "instance job",
	} {
		if got := strings.Join(checkQuery(t, "test", query), " "); got != labels {
			t.Errorf("%s: labels %q, want %q", query, got, labels)
		}
	}
	for _, bad := range []string{`rate(govxlan_up[5m]`, `govxlan_nothing`, `govxlan_up{vni="7"}`} {
		trial := new(testing.T)
		checkQuery(trial, "trial", bad)
		if !trial.Failed() {
			t.Errorf("%s is taken", bad)
		}
	}
}

// variables of Grafana, and what they may stand for.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$instance", "10.0.0.1:9789", "$vni", "4097")

var (
	legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)
	alertLabel  = regexp.MustCompile(`\$labels\.(\w+)`)
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
)

// TestGrafanaDashboard: the dashboard is what Grafana can import, and shows
// metrics that there are.
func TestGrafanaDashboard(t *testing.T) {
	text, err := os.ReadFile("grafana/govxlan.json")
	if err != nil {
		t.Fatal(err)
	}
	type datasource struct{ Type, UID string }
	var dashboard struct {
		Title, UID    string
		SchemaVersion int
		Templating    struct {
			List []struct {
				Name, Type string
				Definition string
				Query      json.RawMessage
			}
		}
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  datasource
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct {
				RefID, Expr, LegendFormat string
				Datasource                datasource
			}
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.Title != "govxlan" || dashboard.UID != "govxlan" || dashboard.SchemaVersion < 36 {
		t.Errorf("title %q, uid %q, schema %d", dashboard.Title, dashboard.UID, dashboard.SchemaVersion)
	}
	var names []string
	for _, v := range dashboard.Templating.List {
		names = append(names, v.Name)
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("variable %s: %q is no label_values(METRIC, LABEL)", v.Name, v.Definition)
			continue
		}
		if labels := checkQuery(t, "variable "+v.Name, variables.Replace(m[1])); !slices.Contains(labels, m[2]) {
			t.Errorf("variable %s: no label %q", v.Name, m[2])
		}
	}
	if want := []string{"datasource", "instance", "vni"}; !slices.Equal(names, want) {
		t.Errorf("variables %q, want %q", names, want)
	}
	ids := make(map[int]bool)
	queries := 0
	for i, p := range dashboard.Panels {
		where := fmt.Sprintf("panel %d %q", p.ID, p.Title)
		if ids[p.ID] || p.Title == "" {
			t.Errorf("%s: the number is taken, or there is no title", where)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s is at %+v, which is not on a grid of 24 columns", where, g)
		}
		for _, other := range dashboard.Panels[:i] {
			if o := other.GridPos; g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				t.Errorf("%s lies on %q", where, other.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", where)
		}
		for _, target := range p.Targets {
			queries++
			if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: the data source is not the one that the user chose", where)
			}
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: %q is not of the endpoint that the user chose", where, target.Expr)
			}
			labels := checkQuery(t, where, variables.Replace(target.Expr))
			for _, m := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: the result has no label %q for its legend", where, m[1])
				}
			}
		}
	}
	if queries < 20 {
		t.Errorf("%d queries: were all of them seen?", queries)
	}
}

// TestPrometheusRules: the alerts are what Prometheus can load, and are about
// metrics that there are.
func TestPrometheusRules(t *testing.T) {
	text, err := os.ReadFile("prometheus-rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &rules, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] {
				t.Errorf("alert %q has no name of its own", r.Alert)
			}
			seen[r.Alert] = true
			if _, err := model.ParseDuration(r.For); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			labels := checkQuery(t, r.Alert, r.Expr)
			for _, part := range []string{"summary", "description"} {
				if r.Annotations[part] == "" {
					t.Errorf("%s has no %s", r.Alert, part)
				}
				for _, m := range alertLabel.FindAllStringSubmatch(r.Annotations[part], -1) {
					if !slices.Contains(labels, m[1]) {
						t.Errorf("%s: the result has no label %q for its %s", r.Alert, m[1], part)
					}
				}
			}
		}
	}
	if len(seen) < 4 {
		t.Errorf("%d alerts", len(seen))
	}
	// metrics.md tells of each.
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range seen {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("metrics.md does not tell of the alert %s", name)
		}
	}
}
