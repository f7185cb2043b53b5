package config

import (
	"strings"
	"testing"
)

func TestRetention(t *testing.T) {
	def := Retention{Last: 3, Daily: 7, Weekly: 4}
	berlin := def
	berlin.TimeZone = "Europe/Berlin"
	for text, want := range map[string]Retention{
		"":                                       def,
		"retention:\n":                           def,
		"retention: {last: 0}\n":                 def, // 0 is the default, here as everywhere
		"retention: {daily: 30}\n":               {Daily: 30},
		"retention: {days: 14, monthly: 12}\n":   {Days: 14, Monthly: 12},
		"retention: {timeZone: Europe/Berlin}\n": berlin,
	} {
		c, err := Parse("f", []byte(text))
		if err != nil || c.Retention != want {
			t.Errorf("%q: %+v, %v", text, c.Retention, err)
		}
	}
}

func TestRetentionRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"retention: {last: -1}\n":                            "retention.last is -1",
		"retention: {days: 20261231}\n":                      "retention.days is 20261231",
		"retention: {daily: 3, weekly: -3}\n":                "retention.weekly is -3",
		"retention: {last: 3, timeZone: Europe/Springfield}": "no time zone that this machine knows",
		"retention: {last: many}\n":                          "[1:19]",
		"retention: {keepLast: 3}\n":                         "keepLast",
	} {
		c, err := Parse("f", []byte(text))
		if err == nil {
			c.Transfer.Buffers = 1
			err = c.check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	c := Default()
	c.Transfer.Buffers = 1
	c.Retention.SetRules(Retention{})
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "keeps no recovery point at all") {
		t.Errorf("flags that keep nothing: %v", err)
	}
}
