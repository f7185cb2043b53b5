package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "snapferry"

// source is one parsed file; pkg is its folder from the module's root.
type source struct {
	path, pkg string
	test      bool
	file      *ast.File
	fset      *token.FileSet
	lines     int
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(rel), test: strings.HasSuffix(p, "_test.go"), fset: token.NewFileSet(), lines: strings.Count(string(text), "\n")}
		s.pkg = path.Dir(s.path)
		if s.file, err = parser.ParseFile(s.fset, rel, text, parser.ParseComments); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil || len(all) < 20 {
		t.Fatalf("parse the sources: %d files, %v", len(all), err)
	}
	return all
}

// rooms are the packages by level; a package belongs to the longest prefix.
// An import must point at a lower level, or stay inside its room.
var rooms = map[string]int{
	"transfer": 0, "nbd": 0, "test/wirelog": 0, "cmd/internal": 0, "test/fault": 0,
	"vsphere": 1, "ebs": 1, "launch": 1, "schedule": 1,
	"test/database": 0, "test/guest": 1, "test/memory": 1, "test/vcenter": 1, "test/aws": 1, "test/suite": 1,
	// config knows the words of schedule: policies and limits are its types.
	"cmd/internal/console": 2, "cmd/internal/config": 2, "cmd/internal/metrics": 2, "cmd/internal/webhook": 2,
	"test/lab":      2,
	"test/scenario": 3, "test/torture": 3, "test/migrate": 3,
	"cmd/snapferry": 3, "cmd/snapferry-lab": 3,
	"test/house": 3, "test/bench": 3,
}

func room(pkg string) (string, int, bool) {
	for p := pkg; p != "."; p = path.Dir(p) {
		if level, ok := rooms[p]; ok {
			return p, level, true
		}
	}
	return "", 0, false
}

// foreign are the modules that only some rooms may import.
var foreign = map[string][]string{
	"github.com/vmware/govmomi":     {"vsphere", "test/vcenter"},
	"github.com/aws/aws-sdk-go-v2/": {"ebs", "launch", "cmd/snapferry"},
	"github.com/aws/smithy-go":      {"ebs", "launch"},
	"github.com/dbos-inc/":          {"schedule"}, // schedule/engine, see its DESIGN.md
}

// allowed says why an import is wrong, or "".
func allowed(from, imported string, test bool) string {
	fromRoom, level, ok := room(from)
	if !ok {
		return "the package is in no room"
	}
	for prefix, only := range foreign {
		if strings.HasPrefix(imported, prefix) && !contains(only, fromRoom) && (!test || !strings.HasPrefix(from, "test/")) {
			return "only " + strings.Join(only, ", ") + " may import it"
		}
	}
	inner, ours := strings.CutPrefix(imported, module+"/")
	if !ours {
		if fromRoom == "transfer" && strings.Contains(strings.Split(imported, "/")[0], ".") && !strings.HasPrefix(imported, "golang.org/x/sync/") && !test {
			return "transfer knows the standard library and golang.org/x/sync only"
		}
		return ""
	}
	toRoom, toLevel, ok := room(inner)
	switch {
	case !ok:
		return "the imported package is in no room"
	case toRoom == fromRoom:
		return ""
	case test && strings.HasPrefix(inner, "test/"):
		return "" // a room's tests may use every fake and suite
	case toLevel >= level:
		return "it is not below (" + strconv.Itoa(level) + " imports " + strconv.Itoa(toLevel) + ")"
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestImportsPointDownwards(t *testing.T) {
	for _, s := range sources(t) {
		for _, i := range s.file.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			if why := allowed(s.pkg, p, s.test); why != "" {
				t.Errorf("%s imports %s: %s", s.path, p, why)
			}
		}
	}
}

// TestTheFenceHolds shows that the fence refuses what it is there for.
func TestTheFenceHolds(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test, ok bool
	}{
		{"vsphere", "snapferry/ebs", false, false},
		{"transfer", "snapferry/vsphere", false, false},
		{"transfer", "github.com/google/go-cmp/cmp", false, false},
		{"transfer", "golang.org/x/sync/errgroup", false, true},
		{"transfer", "snapferry/test/memory", false, false},
		{"transfer", "snapferry/test/memory", true, true},
		{"cmd/internal/cli", "snapferry/transfer", false, false},
		{"cmd/internal/config", "snapferry/schedule", false, true},
		{"schedule/store", "snapferry/ebs", false, false},
		{"cmd/snapferry", "github.com/vmware/govmomi", false, false},
		{"vsphere/hotadd", "github.com/vmware/govmomi/object", false, true},
		{"vsphere/hotadd", "snapferry/vsphere", false, true},
		{"test/aws", "github.com/aws/aws-sdk-go-v2/service/ebs", false, false},
		{"test/aws", "github.com/aws/aws-sdk-go-v2/service/ebs", true, true},
		{"ebs", "snapferry/transfer", false, true},
		{"elsewhere", "fmt", false, false},
	} {
		if why := allowed(c.from, c.to, c.test); (why == "") != c.ok {
			t.Errorf("%s imports %s (test %v): %q", c.from, c.to, c.test, why)
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	docs, pkgs := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		pkgs[s.pkg] = pkgs[s.pkg] || !s.test
		if path.Base(s.path) == "doc.go" && s.file.Doc.Text() != "" {
			docs[s.pkg] = true
		}
	}
	for p, real := range pkgs {
		if real && !docs[p] {
			t.Errorf("%s has no doc.go with a package comment", p)
		}
	}
}

// The limits: what one can hold in the head. Most functions are far below.
const (
	maxFileLines = 500
	maxFuncLines = 80
)

func TestFilesAndFunctionsAreSmall(t *testing.T) {
	total, long := 0, 0
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if s.lines > maxFileLines {
			t.Errorf("%s has %d lines: which rooms hide in it?", s.path, s.lines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			total++
			if n > 45 {
				long++
			}
			if n > maxFuncLines {
				t.Errorf("%s: %s has %d lines", s.path, f.Name.Name, n)
			}
		}
	}
	if long*20 > total {
		t.Errorf("%d of %d functions have more than 45 lines", long, total)
	}
}
