package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
)

// maxFile is more than any honest file has; parsers of YAML take many times the
// size of a file in memory.
const maxFile = 1 << 20

// Parse reads a file's content; what it leaves out, or sets to 0 or nothing, is
// the default. name is for errors, which show the line and point at the place. Unknown keys, keys given twice and a
// second document are errors.
func Parse(name string, data []byte) (Config, error) {
	var c Config
	if len(data) > maxFile {
		return Default(), fmt.Errorf("settings %s: %d bytes are more than a settings file has", name, len(data))
	}
	if err := decode(data, &c); err != nil {
		return Default(), fmt.Errorf("settings %s:\n%s", name, strings.TrimRight(yaml.FormatError(err, false, true), "\n"))
	}
	c.fill()
	return c, nil
}

// decode turns a panic of the parser into an error: a file is foreign bytes.
func decode(data []byte, c *Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("this is not YAML that can be read: %v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) { // an empty file sets nothing
		return err
	}
	var more any
	if err := d.Decode(&more); err == nil && more != nil {
		return errors.New("there is a second document behind a line of ---")
	}
	return nil
}
