package hotadd

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"snapferry/transfer"
)

// Mark says whose an attached disk is. It stands in the appliance's
// extraConfig under the disk's slot, is set and cleared in the same ReconfigVM
// as the disk, and is the only proof of ownership.
type Mark struct {
	Appliance transfer.ApplianceID `json:"appliance"`
	Cycle     transfer.CycleID     `json:"cycle"`
	VM        string               `json:"vm"` // moref of the source
	Disk      transfer.DiskID      `json:"disk"`
	File      string               `json:"file"` // datastore path, as attached
}

const markPrefix = "snapferry.disk."

// slot is a place for a disk on a PVSCSI controller.
type slot struct {
	controller int32 // its device key
	bus        int32 // N of scsiN
	unit       int32
}

func (s slot) String() string { return fmt.Sprintf("scsi%d:%d", s.bus, s.unit) }

// markKey names the mark of a slot: "snapferry.disk.1000:3".
func markKey(controller, unit int32) string {
	return fmt.Sprintf("%s%d:%d", markPrefix, controller, unit)
}

// readMark reads one entry of extraConfig; ok is false for what is no mark.
func readMark(key, value string) (controller, unit int32, m Mark, ok bool) {
	place, is := strings.CutPrefix(key, markPrefix)
	c, u, colon := strings.Cut(place, ":")
	ck, err1 := strconv.ParseInt(c, 10, 32)
	un, err2 := strconv.ParseInt(u, 10, 32)
	if !is || !colon || err1 != nil || err2 != nil || json.Unmarshal([]byte(value), &m) != nil {
		return 0, 0, Mark{}, false
	}
	return int32(ck), int32(un), m, m.File != "" && m.Cycle != ""
}

func (m Mark) String() string {
	text, _ := json.Marshal(m) // strings and an int cannot fail
	return string(text)
}
