package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// renderText shows the value on out and the problem on errs.
func renderText(out, errs io.Writer, program string, v Value, p *Problem) error {
	if v != nil {
		v.Text(out)
	}
	if p == nil {
		return nil
	}
	if f, ok := out.(interface{ Flush() error }); ok { // the order on a terminal
		if err := f.Flush(); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("%s: %s\n", program, indent(p.Error))
	if p.Hint != "" {
		text += fmt.Sprintf("  next: %s\n", indent(p.Hint))
	}
	_, err := io.WriteString(errs, text)
	return err
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }

// renderJSON shows both as one object: the problem's fields behind the
// value's.
func renderJSON(out, _ io.Writer, _ string, v Value, p *Problem) error {
	var parts [][]byte
	add := func(x any) error {
		b, err := marshal(x)
		if err != nil {
			return err
		}
		if b = bytes.TrimSpace(b); len(b) < 2 || b[0] != '{' {
			return fmt.Errorf("%T is no JSON object", x)
		}
		if inner := b[1 : len(b)-1]; len(inner) > 0 {
			parts = append(parts, inner)
		}
		return nil
	}
	if v != nil {
		if err := add(v); err != nil {
			return err
		}
	}
	if p != nil {
		if err := add(p); err != nil {
			return err
		}
	}
	var doc bytes.Buffer
	if err := json.Indent(&doc, append(append([]byte{'{'}, bytes.Join(parts, []byte{','})...), '}'), "", "  "); err != nil {
		return err
	}
	doc.WriteByte('\n')
	_, err := doc.WriteTo(out)
	return err
}

// marshal leaves <, > and & as they are: reasons and hints have them.
func marshal(x any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(x)
	return b.Bytes(), err
}
