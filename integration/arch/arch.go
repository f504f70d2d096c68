// Package arch knows which package of this module may import which, and says so when one imports what it must not.
//
// The picture is the one of docs/ARCHITECTURE.md. The arrows only point down:
//
//	floor 5   cmd/sttnode                    integration   examples
//	floor 4                     node                      the only place that knows all
//	floor 3                     swarm                     swarm → content
//	floor 2   session      dht        content             these three never import each other
//	floor 1   session/transport   frame   stc   event     import nothing of ours
//
// A house package owns the directories below it, unless a longer entry of the table claims them: session/transport/memory
// belongs to session/transport, everything else below session belongs to session. Inside a house package every import is its own affair.
package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Rule states what one house package may import.
type Rule struct {
	// Dir is the package's directory below the module's root, with slashes.
	Dir string
	// Floor is the floor of the picture, 1 at the bottom.
	Floor int
	// Imports lists the house packages that its code may import; all of them lie on a lower floor.
	Imports []string
	// TestImports lists what its _test.go files may import beside that.
	TestImports []string
}

// House is the table of DESIGN §2, one row for each package, bottom up.
var House = []Rule{
	{Dir: "frame", Floor: 1},
	{Dir: "stc", Floor: 1},
	{Dir: "session/transport", Floor: 1},
	{Dir: "event", Floor: 1},

	{Dir: "session", Floor: 2, Imports: []string{"session/transport", "frame", "stc"}},
	// A routing table needs no carrier: it sends through a function it is given. Only its simulated network is made of one.
	{Dir: "dht", Floor: 2, Imports: []string{"frame", "stc"}, TestImports: []string{"session/transport"}},
	{Dir: "content", Floor: 2, Imports: []string{"frame", "stc"}},

	// The scheduler and its streams know neither sessions nor the DHT: whoever owns them hands in a net.Conn.
	{Dir: "swarm", Floor: 3, Imports: []string{"content", "frame", "stc"}},

	{Dir: "node", Floor: 4, Imports: []string{"swarm", "session", "session/transport", "dht", "content", "frame", "stc", "event"}},

	// The command line meets the network through node alone; it opens a store by itself for `store`, and parses hashes.
	{Dir: "cmd", Floor: 5, Imports: []string{"node", "content", "stc"}},
	// Programs for people to read use the library as a stranger would.
	{Dir: "examples", Floor: 5, Imports: []string{"node", "session", "content", "frame", "stc", "event"}},
	{Dir: "integration", Floor: 5, Imports: []string{"node", "swarm", "session", "session/transport", "dht", "content", "frame", "stc", "event"}},
}

// Package is one directory of Go files, as far as arrows are concerned.
type Package struct {
	// Dir is its directory below the module's root, with slashes; "." is the root itself.
	Dir string
	// Imports and TestImports are full import paths, of all files whatever their build constraints;
	// TestImports are those of _test.go files.
	Imports, TestImports []string
}

// Violation is one arrow that must not be.
type Violation struct {
	From, To string // directories below the module's root; To is empty when From itself is unknown
	Test     bool   // the arrow starts in a _test.go file
	Why      string // what is wrong and what to do
}

func (v Violation) String() string {
	if v.To == "" {
		return fmt.Sprintf("%s: %s", v.From, v.Why)
	}
	from := v.From
	if v.Test {
		from += " (test)"
	}
	return fmt.Sprintf("%s → %s: %s", from, v.To, v.Why)
}

// Check returns every arrow between packages of module that rules forbid, in the packages' order.
func Check(module string, rules []Rule, packages []Package) []Violation {
	var found []Violation
	for _, p := range packages {
		from, ok := owner(rules, p.Dir)
		if !ok {
			found = append(found, Violation{From: p.Dir, Why: "no package of the house: put the code where its job already lives, " +
				"or add a row with its floor to integration/arch/arch.go and to docs/ARCHITECTURE.md, with the reason in the commit"})
			continue
		}
		for _, path := range p.Imports {
			if v, bad := arrow(module, rules, p, from, path, from.Imports); bad {
				found = append(found, v)
			}
		}
		for _, path := range p.TestImports {
			if v, bad := arrow(module, rules, p, from, path, slices.Concat(from.Imports, from.TestImports)); bad {
				v.Test = true
				found = append(found, v)
			}
		}
	}
	return found
}

// arrow judges one import. What lies outside of the module is never its business.
func arrow(module string, rules []Rule, p Package, from Rule, path string, allowed []string) (Violation, bool) {
	dir, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		if path != module {
			return Violation{}, false
		}
		dir = "."
	}
	v := Violation{From: p.Dir, To: dir}
	to, ok := owner(rules, dir)
	switch {
	case !ok:
		v.Why = "imports a directory that is no package of the house"
	case to.Dir == from.Dir, slices.Contains(allowed, to.Dir):
		return Violation{}, false
	case to.Floor > from.Floor:
		v.Why = fmt.Sprintf("points up, from floor %d to floor %d: declare the small interface that %s consumes and let node hand it in", from.Floor, to.Floor, from.Dir)
	case to.Floor == from.Floor:
		v.Why = fmt.Sprintf("%s and %s share floor %d and never import each other: move what both need one floor down, or let node join them", from.Dir, to.Dir, from.Floor)
	default:
		v.Why = fmt.Sprintf("%s may import only %s: let node hand in what it needs", from.Dir, strings.Join(allowed, ", "))
	}
	return v, true
}

// owner finds the rule with the longest directory that is dir or lies above it.
func owner(rules []Rule, dir string) (Rule, bool) {
	var best Rule
	for _, r := range rules {
		if (dir == r.Dir || strings.HasPrefix(dir, r.Dir+"/")) && len(r.Dir) > len(best.Dir) {
			best = r
		}
	}
	return best, best.Dir != ""
}
