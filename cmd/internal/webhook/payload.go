package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// payload is an event in the shape of Amazon EventBridge's.
type payload struct {
	Version    string             `json:"version"` // of this shape
	ID         string             `json:"id"`
	Source     string             `json:"source"`
	Appliance  string             `json:"appliance,omitempty"` // that sends
	Time       time.Time          `json:"time"`
	DetailType schedule.EventKind `json:"detail-type"`
	Resources  []string           `json:"resources"` // "<vCenter's UUID>/<moref>"
	Detail     schedule.Event     `json:"detail"`
}

// encode returns an event's ID and body. Sent again by the same appliance they
// are the same; another one differs in the appliance only.
func encode(e schedule.Event, appliance string) (id string, body []byte, err error) {
	id = eventID(e)
	p := payload{Version: "1", ID: id, Source: "snapferry", Appliance: appliance, Time: e.At.UTC(), DetailType: e.Kind, Resources: []string{}, Detail: e}
	p.Detail.At = e.At.UTC()
	if e.VM != (transfer.VMID{}) {
		p.Resources = append(p.Resources, e.VM.String())
	}
	body, err = json.Marshal(p)
	if err != nil {
		return id, nil, fmt.Errorf("write event %d as JSON: %w", e.ID, err)
	}
	return id, body, nil
}

// eventID is unique beyond one database: several installations may have one
// receiver, and all of them count from 1.
func eventID(e schedule.Event) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%d\n%s\n%s\n%s", e.ID, e.At.UnixMilli(), e.Kind, e.VM, e.Text))
	return fmt.Sprintf("evt_%d_%s", e.ID, hex.EncodeToString(sum[:8]))
}
