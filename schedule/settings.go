package schedule

// Settings is what the console shows of the configuration: values as a person
// wrote them, no secret among them.
type Settings struct {
	Limits Limits `json:"limits"`
	// Groups are the file's sections in its order.
	Groups []SettingGroup `json:"groups"`
}

// SettingGroup is a section.
type SettingGroup struct {
	Name  string    `json:"name"`
	Items []Setting `json:"items"`
}

// Setting is one line. A secret's value says only whether it is set.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from,omitempty"` // "file", "environment", "default"
}
