package main

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"

	"snapferry/cmd/internal/config"
	"snapferry/schedule"
)

// describe is the configuration for those who look: sections and lines as the
// file has them, secrets hidden by their own type.
func describe(c config.Config) schedule.Settings {
	s := schedule.Settings{Limits: c.Limits}
	text, err := yaml.Marshal(c)
	var sections yaml.MapSlice
	if err == nil {
		err = yaml.UnmarshalWithOptions(text, &sections, yaml.UseOrderedMap())
	}
	if err != nil {
		return s // nothing to show is better than no service
	}
	general := schedule.SettingGroup{Name: "general"}
	for _, section := range sections {
		name := fmt.Sprint(section.Key)
		if inner, ok := section.Value.(yaml.MapSlice); ok {
			g := schedule.SettingGroup{Name: name}
			flatten(&g, "", inner)
			s.Groups = append(s.Groups, g)
			continue
		}
		if name != "policies" { // they have a page of their own
			general.Items = append(general.Items, schedule.Setting{Key: name, Value: lineText(section.Value)})
		}
	}
	s.Groups = append(s.Groups, general)
	return s
}

func flatten(g *schedule.SettingGroup, prefix string, m yaml.MapSlice) {
	for _, item := range m {
		key := prefix + fmt.Sprint(item.Key)
		if inner, ok := item.Value.(yaml.MapSlice); ok {
			flatten(g, key+".", inner)
			continue
		}
		g.Items = append(g.Items, schedule.Setting{Key: key, Value: lineText(item.Value)})
	}
}

// lineText is a value on one line.
func lineText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = lineText(x)
		}
		return strings.Join(parts, ", ")
	case yaml.MapSlice:
		var parts []string
		for _, item := range v {
			if value := lineText(item.Value); value != "" {
				parts = append(parts, fmt.Sprintf("%v: %s", item.Key, value))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}
