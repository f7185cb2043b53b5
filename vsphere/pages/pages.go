package pages

import (
	"fmt"

	"snapferry/transfer"
)

// Grain is the finest that CBT reports, in bytes. A page that covers less is no
// honest progress, which bounds the number of pages.
const Grain = 64 << 10

// Page is one answer: what it covers, and the areas in it.
type Page struct {
	transfer.Extent
	Areas []transfer.Extent
}

// Broken is an answer that cannot be trusted.
type Broken struct{ why string }

func (b *Broken) Error() string { return b.why }

func broken(format string, args ...any) error { return &Broken{fmt.Sprintf(format, args...)} }

// Walk asks for pages from the beginning of a disk of size bytes to its end, and
// passes every area on, row 5 of the CBT table. Its error is a *Broken, or what
// ask or yield returned, as it is.
func Walk(size int64, ask func(from int64) (Page, error), yield func(transfer.Extent) error) error {
	most := size/Grain + 2
	for from, asked := int64(0), int64(0); from < size; asked++ {
		if asked == most {
			return broken("no end after %d pages", asked)
		}
		page, err := ask(from)
		if err != nil {
			return err
		}
		if err := page.check(from, size); err != nil {
			return err
		}
		for _, a := range page.Areas {
			if a.Offset < page.Offset || a.Length > page.End()-a.Offset {
				return broken("area %v is outside its page %v", a, page.Extent)
			}
			if err := yield(a); err != nil {
				return err
			}
		}
		from = page.End() // a page without areas says that nothing changed in it
	}
	return nil
}

// check refuses pages that do not join, do not get on, or leave the disk.
func (p Page) check(from, size int64) error {
	switch {
	case p.Offset != from:
		return broken("asked from %d, the page begins at %d", from, p.Offset)
	case p.Length <= 0:
		return broken("the page at %d covers %d bytes", from, p.Length)
	case p.Length > size-p.Offset:
		return broken("page %v is not inside the disk of %d bytes", p.Extent, size)
	}
	return nil
}
