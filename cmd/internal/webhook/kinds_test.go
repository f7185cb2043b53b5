package webhook

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"snapferry/schedule"
)

// A hook can be set up for every event that schedule has.
func TestNoEventIsForgotten(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "..", "schedule", "event.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		v, ok := node.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if name, ok := v.Type.(*ast.Ident); !ok || name.Name != "EventKind" {
			return true
		}
		kind, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if n++; !slices.Contains(kinds, schedule.EventKind(kind)) {
			t.Errorf("%s is not among the kinds", kind)
		}
		return true
	})
	if n < 20 || n != len(kinds) {
		t.Errorf("%d events in schedule, %d here", n, len(kinds))
	}
}
