package arch

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Load reads the imports of every package below root, the directory of the module's go.mod. It reads all Go files whatever their
// build constraints say, so that a forbidden arrow cannot hide in a file for another system. As the go command does,
// it leaves out testdata, directories whose names begin with '.' or '_', and nested modules.
func Load(root string) ([]Package, error) {
	code, tests := map[string]map[string]bool{}, map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && (d.Name() == "testdata" || d.Name() == "vendor" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || isModule(path)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(d.Name(), ".go") || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
			return nil
		}
		dir, sets := filepath.ToSlash(filepath.Dir(rel)), code
		if strings.HasSuffix(d.Name(), "_test.go") {
			sets = tests
		}
		if sets[dir] == nil {
			sets[dir] = map[string]bool{}
		}
		return addImports(sets[dir], path)
	})
	if err != nil {
		return nil, fmt.Errorf("read the packages of %s: %w", root, err)
	}
	var packages []Package
	dirs := maps.Clone(code)
	maps.Copy(dirs, tests)
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		packages = append(packages, Package{
			Dir:         dir,
			Imports:     slices.Sorted(maps.Keys(code[dir])),
			TestImports: slices.Sorted(maps.Keys(tests[dir])),
		})
	}
	return packages, nil
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func addImports(set map[string]bool, file string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range parsed.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: import %s: %w", file, spec.Path.Value, err)
		}
		set[path] = true
	}
	return nil
}
