package nbd

import (
	"bytes"
	"strings"
	"testing"
)

// TestBadOptions: each gets its error, and then the export can still be opened.
func TestBadOptions(t *testing.T) {
	long := strings.Repeat("x", maxString+1)
	for _, tc := range []struct {
		name string
		opt  uint32
		data []byte
		want uint32
	}{
		{"unknown", 12345, nil, repErrUnsup},
		{"TLS", 5, nil, repErrUnsup},
		{"oversized", 12345, make([]byte, maxOption+1), repErrTooBig},
		{"oversized contexts", optSetMeta, make([]byte, 1<<20), repErrTooBig},
		{"list with data", optList, []byte("x"), repErrInvalid},
		{"list", optList, nil, repErrPolicy},
		{"structured with data", optStructuredReply, []byte("x"), repErrInvalid},
		{"go without anything", optGo, nil, repErrInvalid},
		{"go with a name that is too long", optGo, wire(uint32(100), "disk", uint16(0)), repErrInvalid},
		{"go with a very long name", optGo, wire(uint32(len(long)), long, uint16(0)), repErrInvalid},
		{"go with missing requests", optGo, wire(uint32(4), "disk", uint16(2), uint16(3)), repErrInvalid},
		{"go elsewhere", optGo, wire(uint32(4), "gone", uint16(0)), repErrUnknown},
		{"info elsewhere", optInfo, wire(uint32(0), uint16(0)), repErrUnknown},
		{"contexts before structured", optSetMeta, wire(uint32(4), "disk", uint32(0)), repErrInvalid},
		{"contexts cut", optListMeta, wire(uint32(4), "disk"), repErrInvalid},
		{"contexts that lie", optSetMeta, wire(uint32(4), "disk", ^uint32(0), uint32(1), "x"), repErrInvalid},
		{"contexts with a rest", optSetMeta, wire(uint32(4), "disk", uint32(0), "x"), repErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := dialRude(t, &Server{Export: one(newMemDisk(t, 100))})
			r.say(uint32(3), option(tc.opt, tc.data))
			if got, text := r.optReply(tc.opt); got != tc.want {
				t.Errorf("reply = %#x %q, want %#x", got, text, tc.want)
			}
			r.say(option(optGo, uint32(4), "disk", uint16(0)))
			if got, _ := r.optReply(optGo); got != repInfo {
				t.Errorf("NBD_OPT_GO afterwards = %#x", got)
			}
		})
	}
}

func TestFatalNegotiation(t *testing.T) {
	for name, tc := range map[string]struct {
		say  []byte
		want string
	}{
		"unknown flags":    {wire(uint32(1 << 7)), "unknown flags"},
		"bad magic":        {wire(uint32(3), make([]byte, 16)), "bad option magic"},
		"monstrous option": {wire(uint32(3), uint64(magicOption), uint32(optGo), ^uint32(0)), "NBD_OPT_GO of 4294967295"},
		"long export name": {wire(uint32(3), option(optExportName, make([]byte, maxString+1))), "export name of 4097"},
		"no such export":   {wire(uint32(3), option(optExportName, "gone")), `no disk "gone"`},
	} {
		r := dialRude(t, &Server{Export: one(newMemDisk(t, 100))})
		r.say(tc.say)
		if err := <-r.done; err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := dialRude(t, &Server{Export: one(newMemDisk(t, 100))})
	r.say(uint32(1), option(optAbort))
	if typ, _ := r.optReply(optAbort); typ != repAck {
		t.Errorf("abort: %d", typ)
	}
	if err := <-r.done; err != nil {
		t.Errorf("abort: %v", err)
	}
}

// TestExportName is the way in of old clients, with and without the padding.
func TestExportName(t *testing.T) {
	for _, flags := range []uint32{1, 3} {
		d := newMemDisk(t, 100)
		pattern(d.data, 4)
		r := dialRude(t, &Server{Export: one(d)})
		r.say(flags, option(optExportName, "disk"))
		want := wire(uint64(100), uint16(tfHasFlags|tfFlush|tfFUA|tfTrim|tfWriteZeroes|tfMultiConn))
		if flags == 1 {
			want = append(want, make([]byte, 124)...)
		}
		if got := r.read(len(want)); !bytes.Equal(got, want) {
			t.Errorf("export = %x, want %x", got, want)
		}
		r.say(req(cmdRead, 0, 10, 20))
		want = simple(42, 0, d.data[10:30])
		if got := r.read(len(want)); !bytes.Equal(got, want) {
			t.Errorf("read = %x, want %x", got, want)
		}
	}
}

// TestContextsOfAnotherExport are not in force.
func TestContextsOfAnotherExport(t *testing.T) {
	d := newMemDisk(t, 100)
	r := dialRude(t, &Server{Export: func(string) (Backend, error) { return d, nil }})
	r.say(uint32(3), option(optStructuredReply))
	r.optReply(optStructuredReply)
	r.say(option(optListMeta, uint32(0), uint32(0)))
	if typ, s := r.optReply(optListMeta); typ != repMeta || s != "\x00\x00\x00\x00base:allocation" {
		t.Errorf("list = %d %q", typ, s)
	}
	r.optReply(optListMeta)
	r.say(option(optSetMeta, uint32(1), "a", uint32(1), uint32(15), ContextAllocation))
	r.optReply(optSetMeta)
	r.optReply(optSetMeta)
	r.say(option(optGo, uint32(1), "b", uint16(0)))
	for typ := uint32(0); typ != repAck; {
		typ, _ = r.optReply(optGo)
	}
	r.say(req(cmdBlockStatus, 0, 0, 100))
	if code := r.code(true); code != nbdEINVAL {
		t.Errorf("block status = %d", code)
	}
}
