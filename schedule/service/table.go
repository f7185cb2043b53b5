package service

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"snapferry/schedule"
)

// The table of VMs that people edit in a spreadsheet. The first row names the
// columns, in any order: vm is needed, the others may be left out, and what is
// left out stays as it is. An empty cell of wave, policy or a launch setting
// takes that away; an empty cell of paused leaves it.
const (
	columnVM     = "vm"     // inventory path, moref, vcenter/moref, name or instance UUID
	columnName   = "name"   // only looked at: it must be the VM's
	columnWave   = "wave"   // one that does not exist is made
	columnPolicy = "policy" // that a person chose; empty is what matches
	columnPaused = "paused" // true or false
	launchPrefix = "launch."
)

var columns = []string{columnVM, columnName, columnWave, columnPolicy, columnPaused}

// The bounds of a table.
const (
	maxTable  = 16 << 20
	maxTabled = 50_000
	// maxFaults are told at once: enough to see a pattern in.
	maxFaults = 20
)

// line is a row of the table.
type line struct {
	number int // of the text, from 1
	vm     string
	name   string
	// nil is a column that is not there.
	wave, policy *string
	paused       *bool
	launch       map[string]string // by key; "" takes it away
}

// faults are what is wrong with a table, by line and column.
type faults struct{ texts []string }

func (f *faults) add(line int, column, format string, args ...any) {
	where := fmt.Sprintf("line %d", line)
	if column != "" {
		where += ", column " + column
	}
	f.texts = append(f.texts, where+": "+fmt.Sprintf(format, args...))
}

// err is all of them as one ErrInvalid.
func (f *faults) err() error {
	n := len(f.texts)
	if n == 0 {
		return nil
	}
	texts := f.texts[:min(n, maxFaults)]
	if n > maxFaults {
		texts = append(slices.Clone(texts), fmt.Sprintf("and %d more", n-maxFaults))
	}
	return invalid("Nothing was changed.", "%s", strings.Join(texts, "; "))
}

// hot begins what spreadsheets take for a formula. Such a cell is written with
// an apostrophe before it, as is one that has one there already, so that it
// reads back as it was.
var hot = regexp.MustCompile(`^'*[=+\-@\t\r\n]`)

func guard(cell string) string {
	if hot.MatchString(cell) {
		return "'" + cell
	}
	return cell
}

func unguard(cell string) string {
	if rest, ok := strings.CutPrefix(cell, "'"); ok && hot.MatchString(rest) {
		return rest
	}
	return cell
}

// writeTable writes lines, all of which have the same columns.
func writeTable(w io.Writer, keys []string, lines []line) error {
	out := csv.NewWriter(w)
	row := slices.Clone(columns)
	for _, k := range keys {
		row = append(row, launchPrefix+k)
	}
	if err := out.Write(row); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, l := range lines {
		row = append(row[:0], l.vm, l.name, *l.wave, *l.policy, strconv.FormatBool(*l.paused))
		for _, k := range keys {
			row = append(row, l.launch[k])
		}
		for i := range row {
			row[i] = guard(row[i])
		}
		if err := out.Write(row); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// readTable reads what writeTable wrote and what spreadsheets make of it: with
// a byte order mark, with semicolons, with empty rows. The error, an
// ErrInvalid, names lines and columns.
func readTable(r io.Reader) ([]line, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxTable+1))
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	if len(text) > maxTable {
		return nil, invalid("", "the table has more than %d MiB", maxTable>>20)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		at := 1 + bytes.Count(text[:validPrefix(text)], []byte("\n"))
		return nil, invalid("Save it as CSV UTF-8.", "line %d: the table is not UTF-8", at)
	}
	in := csv.NewReader(bytes.NewReader(text))
	in.Comma, in.FieldsPerRecord = separator(text), -1
	t := &table{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var wrong *csv.ParseError
		if errors.As(err, &wrong) {
			t.add(wrong.Line, "", "character %d: %v", wrong.Column, wrong.Err)
			break // where the next row begins nobody knows
		}
		if err != nil {
			return nil, fmt.Errorf("read the table: %w", err)
		}
		at, _ := in.FieldPos(0)
		t.row(at, row)
	}
	if t.header == nil && len(t.texts) == 0 {
		return nil, invalid("Its first row names the columns: vm, and name, wave, policy, paused, launch.….", "the table is empty")
	}
	return t.lines, t.err()
}

// validPrefix is how many bytes come before the first that is no UTF-8.
func validPrefix(text []byte) int {
	n := 0
	for n < len(text) {
		r, size := utf8.DecodeRune(text[n:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		n += size
	}
	return n
}

// separator is what the first row uses; it has no cell with either in it.
func separator(text []byte) rune {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if bytes.IndexByte(first, ';') >= 0 && bytes.IndexByte(first, ',') < 0 {
		return ';'
	}
	return ','
}

// table is what was read so far.
type table struct {
	faults
	header []string
	lines  []line
}

func (t *table) row(at int, cells []string) {
	blank := !slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" })
	switch {
	case blank:
		return
	case t.header == nil:
		t.readHeader(at, cells)
		return
	case len(t.lines) == maxTabled:
		if len(t.texts) < maxFaults {
			t.add(at, "", "there are more than %d VMs", maxTabled)
		}
		return
	}
	for i := len(t.header); i < len(cells); i++ {
		if cells[i] != "" {
			t.add(at, "", "cell %d has no column: the first row has %d", i+1, len(t.header))
			return
		}
	}
	if len(cells) < len(t.header) {
		t.add(at, "", "there are %d cells, and the first row has %d", len(cells), len(t.header))
		return
	}
	l := line{number: at, launch: map[string]string{}}
	for i, column := range t.header {
		t.cell(&l, column, unguard(cells[i]))
	}
	t.lines = append(t.lines, l)
}

// readHeader reads the names of the columns; spreadsheets leave empty ones at
// the end.
func (t *table) readHeader(at int, cells []string) {
	for len(cells) > 0 && strings.TrimSpace(cells[len(cells)-1]) == "" {
		cells = cells[:len(cells)-1]
	}
	t.header = []string{}
	for _, cell := range cells {
		name := strings.TrimSpace(unguard(cell))
		key, isLaunch := strings.CutPrefix(name, launchPrefix)
		if lower := strings.ToLower(name); slices.Contains(columns, lower) {
			name = lower
		} else if !isLaunch {
			t.add(at, "", "there is no column %q; there are %s and %s…", name, strings.Join(columns, ", "), launchPrefix)
		} else if err := checkSetting(key, ""); err != nil {
			t.add(at, "", "%v", err)
		}
		if slices.Contains(t.header, name) {
			t.add(at, "", "there are two columns %s", name)
		}
		t.header = append(t.header, name)
	}
	if !slices.Contains(t.header, columnVM) {
		t.add(at, "", "there is no column %s", columnVM)
	}
	if len(t.header) > len(columns)+maxLaunchKeys {
		t.add(at, "", "there are %d columns, %d is the most", len(t.header), len(columns)+maxLaunchKeys)
	}
}

// cell reads one cell into its line.
func (t *table) cell(l *line, column, text string) {
	word := strings.TrimSpace(text)
	switch column {
	case columnVM:
		if l.vm = word; word == "" {
			t.add(l.number, column, "it is empty")
		}
	case columnName:
		l.name = text
	case columnWave:
		l.wave = &word
		if word != "" && checkWaveName(word) != nil {
			t.add(l.number, column, "a wave cannot be called %q: %s", word, waveRule)
		}
	case columnPolicy:
		l.policy = &word
	case columnPaused:
		if word == "" {
			return
		}
		on, err := yesOrNo(word)
		if err != nil {
			t.add(l.number, column, "%q is neither true nor false", word)
			return
		}
		l.paused = &on
	default:
		key := strings.TrimPrefix(column, launchPrefix)
		l.launch[key] = text
		if err := checkSetting(key, text); err != nil {
			t.add(l.number, column, "%v", err)
		}
	}
}

// yesOrNo reads what people and spreadsheets write for true and false.
func yesOrNo(word string) (bool, error) {
	switch strings.ToLower(word) {
	case "true", "yes", "1", "x":
		return true, nil
	case "false", "no", "0":
		return false, nil
	}
	return false, schedule.ErrInvalid
}
