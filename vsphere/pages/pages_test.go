package pages_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"snapferry/transfer"
	"snapferry/vsphere/pages"
)

func TestPagesMustJoin(t *testing.T) {
	for _, x := range []struct {
		from int64
		page transfer.Extent
		ok   bool
	}{
		{0, transfer.Extent{Offset: 0, Length: 1000}, true}, {400, transfer.Extent{Offset: 400, Length: 600}, true},
		{400, transfer.Extent{Offset: 401, Length: 1}, false}, {400, transfer.Extent{Offset: 0, Length: 1000}, false},
		{400, transfer.Extent{Offset: 400, Length: 0}, false}, {400, transfer.Extent{Offset: 400, Length: -1}, false},
		{400, transfer.Extent{Offset: 400, Length: 601}, false},
	} {
		err := pages.Walk(1000, func(from int64) (pages.Page, error) {
			if from < x.from {
				return pages.Page{Extent: transfer.Extent{Offset: 0, Length: x.from}}, nil
			}
			return pages.Page{Extent: x.page}, nil
		}, func(transfer.Extent) error { return nil })
		if (err == nil) != x.ok || (err != nil && !errors.As(err, new(*pages.Broken))) {
			t.Errorf("asked from %d, page %v: %v", x.from, x.page, err)
		}
	}
}

// FuzzPages feeds answers: numbers of eight bytes, for each page its offset, its
// length, how many areas, and these. Whatever vCenter says, the questions end,
// and areas that come out are inside their page.
func FuzzPages(f *testing.F) {
	const size = 8 << 20
	numbers := func(n ...int64) (b []byte) {
		for _, v := range n {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
		return b
	}
	f.Add(numbers(0, size, 2, 0, 65536, 1<<20, 65536))
	f.Add(numbers(0, 1<<20, 1, 0, 65536, 1<<20, 7<<20, 1, 2<<20, 65536))
	f.Add(numbers(0, 65536, 0, 65536, size-65536, 1, 65536, 512))
	f.Add(numbers(0, size, 1, size-512, 1024))
	f.Add(numbers(0, size, 1, 1<<62, 1<<62))
	f.Add(numbers(65536, size, 0))
	f.Add(numbers(0, -1, 0))
	f.Add(numbers(0, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func() (v int64) {
			if len(b) >= 8 {
				v, b = int64(binary.LittleEndian.Uint64(b)), b[8:]
			} else {
				b = nil
			}
			return v
		}
		over := errors.New("the input is over")
		asked := 0
		var last transfer.Extent
		ask := func(from int64) (pages.Page, error) {
			if asked++; asked > size/pages.Grain+2 {
				t.Fatal("asked without an end")
			}
			if len(b) == 0 {
				return pages.Page{}, over
			}
			p := pages.Page{Extent: transfer.Extent{Offset: next(), Length: next()}}
			for n := next() & 15; n > 0; n-- {
				p.Areas = append(p.Areas, transfer.Extent{Offset: next(), Length: next()})
			}
			last = p.Extent
			return p, nil
		}
		var end int64
		err := pages.Walk(size, ask, transfer.CheckAreas(size, func(a transfer.Extent) error {
			if a.Offset < end || a.Length <= 0 || a.Offset < last.Offset || a.End() > last.End() || a.End() > size {
				t.Fatalf("area %v behind %d, of page %v", a, end, last)
			}
			end = a.End()
			return nil
		}))
		if err != nil && !errors.Is(err, over) && !errors.As(err, new(*pages.Broken)) && transfer.KindOf(err) != transfer.BaselineLost {
			t.Fatalf("%v", err)
		}
	})
}
