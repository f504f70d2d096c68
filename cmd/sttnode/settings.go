package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

const (
	envPrefix        = "STTNODE_"
	settingsFileName = "config"
	maxSettingsFile  = 1 << 20
)

// setting is one line of a settings file.
type setting struct {
	name   string
	values []string
	line   int
}

// applySettings fills what the command line left open from the environment,
// then from the settings file; but not those whose names are in except.
func applySettings(flags *pflag.FlagSet, lookupEnv func(string) (string, bool), except []string) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil || slices.Contains(except, f.Name) {
			return
		}
		name := envName(f.Name)
		if value, ok := lookupEnv(name); ok && value != "" {
			if setErr := flags.Set(f.Name, value); setErr != nil {
				err = usagef("%s: %v", name, setErr)
			}
		}
	})
	if err != nil || flags.Lookup("config") == nil {
		return err
	}
	path, given := flags.Lookup("config").Value.String(), true
	if path == "" {
		path, given = filepath.Join(flags.Lookup("dir").Value.String(), settingsFileName), false
	}
	f, err := os.Open(path)
	if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) && !given {
		return nil
	}
	if err != nil {
		return usagef("settings file: %v", err)
	}
	defer f.Close()
	settings, err := parseSettings(f)
	if err != nil {
		return usagef("settings file %s: %v", path, err)
	}
	for _, s := range settings {
		if slices.Contains(except, s.name) {
			continue
		}
		if err := applySetting(flags, s, given); err != nil {
			return usagef("settings file %s: line %d: %v", path, s.line, err)
		}
	}
	return nil
}

func applySetting(flags *pflag.FlagSet, s setting, given bool) error {
	switch {
	case s.name == "config":
		return errors.New("a settings file cannot name another one")
	case s.name == "dir" && !given:
		return errors.New("dir cannot be set in the file that lies in it")
	case !slices.Contains(settingNames(), s.name):
		return fmt.Errorf("no command has a setting named %q", s.name)
	}
	f := flags.Lookup(s.name)
	if f == nil || f.Changed {
		return nil // of another command, or said already
	}
	switch kind := f.Value.Type(); {
	case kind == "stringSlice":
		return flags.Set(s.name, strings.Join(s.values, ","))
	case kind != "stringArray" && len(s.values) != 1:
		return fmt.Errorf("%s takes one value", s.name)
	}
	for _, value := range s.values {
		if err := flags.Set(s.name, value); err != nil {
			return err
		}
	}
	return nil
}

// envName returns the environment variable of a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settingNames returns the names of all flags of all commands.
func settingNames() []string {
	var names []string
	for _, c := range commands() {
		var o options
		fs, _ := c.flagSet(&o)
		fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	}
	return names
}

// parseSettings reads lines of "name = value". A name comes once; a value is
// bare up to a comma or a #, or a quoted string as Go and TOML write it; a list
// is values separated by commas, or quoted ones in brackets on one line.
func parseSettings(r io.Reader) ([]setting, error) {
	var settings []setting
	lines := bufio.NewScanner(io.LimitReader(r, maxSettingsFile))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: expected name = value", n)
		}
		if slices.ContainsFunc(settings, func(s setting) bool { return s.name == name }) {
			return nil, fmt.Errorf("line %d: %s is set twice", n, name)
		}
		values, err := parseValues(rest)
		if err != nil {
			return nil, fmt.Errorf("line %d: %v", n, err)
		}
		settings = append(settings, setting{name, values, n})
	}
	return settings, lines.Err()
}

// parseValues reads what follows the equals sign.
func parseValues(s string) (values []string, err error) {
	s = strings.TrimSpace(s)
	values = []string{}
	if inner, ok := strings.CutPrefix(s, "["); ok && startsList(inner) {
		for s = strings.TrimSpace(inner); !strings.HasPrefix(s, "]"); {
			var value string
			if value, s, err = parseQuoted(s); err != nil {
				return nil, err
			}
			values = append(values, value)
			if next, ok := strings.CutPrefix(s, ","); ok {
				s = strings.TrimSpace(next)
			} else if !strings.HasPrefix(s, "]") {
				return nil, errors.New("a list ends with ]")
			}
		}
		s = s[1:]
	} else {
		for more := true; more; {
			var value string
			if value, s, err = parseValue(s); err != nil {
				return nil, err
			}
			values = append(values, value)
			s, more = strings.CutPrefix(s, ",")
			s = strings.TrimSpace(s)
		}
	}
	if s = strings.TrimSpace(s); s != "" && s[0] != '#' {
		return nil, fmt.Errorf("%q follows the value", s)
	}
	return values, nil
}

// startsList tells a list, which holds quoted values, from an address like
// [::1]:4700.
func startsList(inner string) bool {
	inner = strings.TrimSpace(inner)
	return strings.HasPrefix(inner, `"`) || strings.HasPrefix(inner, "]")
}

// parseQuoted reads one quoted value and the space behind it.
func parseQuoted(s string) (value, rest string, err error) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil || !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("expected a quoted value, with its closing quote and known escapes")
	}
	value, err = strconv.Unquote(quoted)
	return value, strings.TrimSpace(s[len(quoted):]), err
}

// parseValue reads one value, quoted or bare up to a comma or a #.
func parseValue(s string) (value, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return parseQuoted(s)
	}
	end := strings.IndexAny(s, ",#")
	if end < 0 {
		end = len(s)
	}
	if value = strings.TrimSpace(s[:end]); value == "" {
		return "", "", errors.New("the value is empty")
	}
	return value, s[end:], nil
}
