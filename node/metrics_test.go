package node

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		seeder, root := w.seed(ctx, "s", "film", testBytes("film", 512<<10), addressOf(boot))
		cfg := w.config("f", addressOf(boot))
		f, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		collector := NewCollector(f)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(collector)
		wantUp := func(up string) {
			t.Helper()
			if err := testutil.GatherAndCompare(registry, strings.NewReader(
				"# HELP sttnode_up 1 while the node runs.\n# TYPE sttnode_up gauge\nsttnode_up "+up+"\n"), "sttnode_up"); err != nil {
				t.Error(err)
			}
		}
		wantUp("0")
		if n := testutil.CollectAndCount(collector); n != 1 {
			t.Errorf("a node that does not run has %d metrics", n)
		}
		if err := f.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Fetch(ctx, root, FetchOptions{Provide: true}); err != nil {
			t.Fatal(err)
		}
		wantUp("1")
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		values := gather(t, registry)
		for name, want := range map[string]float64{
			`sttnode_joined`:                                                    1,
			`sttnode_peers_connected`:                                           2,
			`sttnode_fetches_total{result="completed"}`:                         1,
			`sttnode_fetches_active`:                                            0,
			`sttnode_fetched_bytes_total{kind="bad"}`:                           0,
			`sttnode_dht_provided`:                                              1,
			`sttnode_store_blobs`:                                               9,
			`sttnode_handshakes_total{result="completed"}`:                      2,
			`sttnode_dht_lookups_total{purpose="providers",result="no_answer"}`: 0,
		} {
			if got, ok := values[name]; !ok || got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		// Every histogram of a call adds up, and on this network a call takes
		// one round trip.
		calls, quick := `sttnode_dht_call_seconds{method="find_providers"}`, lan.Delay.Seconds()
		if values[calls] == 0 || values[calls] > values[`sttnode_dht_calls_total{method="find_providers",result="answered"}`] {
			t.Errorf("%v calls of find_providers took their time, of %v", values[calls], values[`sttnode_dht_calls_total{method="find_providers",result="answered"}`])
		}
		if fast, all := values[calls+" ≤ 0.005"], values[calls+" ≤ 5"]; all != values[calls] || fast > 0 != (2*quick <= 0.005) {
			t.Errorf("%v calls of %v took at most 5 ms", fast, all)
		}
		if got := values[`sttnode_dht_lookup_hops{purpose="publish"} ≤ 5`]; got == 0 {
			t.Error("no publish has hops")
		}
		if got := values[`sttnode_fetched_bytes_total{kind="verified"}`]; got < 512<<10 || got > 520<<10 {
			t.Errorf("fetched %v bytes", got)
		}
		stopNode(t, f)
		wantUp("0")

		registry = prometheus.NewPedanticRegistry()
		registry.MustRegister(NewCollector(seeder))
		values = gather(t, registry)
		if got := values[`sttnode_served_bytes_total`]; got < 512<<10 {
			t.Errorf("served %v bytes", got)
		}
	})
}

func TestReadmeNamesAllMetrics(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		// Desc{fqName: "sttnode_up", …
		name := strings.Split(m.desc.String(), `"`)[1]
		if !regexp.MustCompile("`" + name + "[{`]").Match(readme) {
			t.Errorf("README.md does not name the metric %s", name)
		}
	}
}

// gather returns the values of all metrics by name{label="value",…}.
func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			for _, b := range m.GetHistogram().GetBucket() {
				values[fmt.Sprintf("%s ≤ %v", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
			}
		}
	}
	return values
}
