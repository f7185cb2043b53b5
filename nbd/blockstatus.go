package nbd

import (
	"context"
	"fmt"
	"slices"
	"syscall"
)

// statusChunk takes the extents of one metadata context.
func (c *Client) statusChunk(cl *call, n uint32) error {
	if n < 12 || n > maxStatusChunk || n%8 != 4 {
		return violation("block status chunk of %d bytes", n)
	}
	id, err := c.uint32()
	if err != nil {
		return err
	}
	if _, ok := c.contexts[id]; !ok {
		return violation("block status in metadata context %d, which was not agreed", id)
	}
	if _, ok := cl.extents[id]; ok {
		return violation("second block status in %s", c.contexts[id])
	}
	if cl.extents == nil {
		cl.extents = map[uint32][]Extent{}
	}
	var extents []Extent
	at, end := int64(cl.off), int64(cl.off)+int64(cl.length)
	for range (n - 4) / 8 {
		length, err := c.uint32()
		if err != nil {
			return err
		}
		flags, err := c.uint32()
		if err != nil {
			return err
		}
		if length == 0 || at >= end {
			return violation("extent of %d bytes at %d in %s, of a request that ends at %d", length, at, c.contexts[id], end)
		}
		extents = appendExtent(extents, Extent{at, int64(length), flags})
		at += int64(length)
	}
	cl.extents[id] = extents
	return nil
}

// appendExtent appends e, which begins where the last one ends, and joins the
// two if they have the same state.
func appendExtent(list []Extent, e Extent) []Extent {
	if k := len(list) - 1; k >= 0 && list[k].Flags == e.Flags {
		list[k].Length += e.Length
		return list
	}
	return append(list, e)
}

// BlockStatus returns the extents of [off, off+n) in a metadata context: in
// order, without gaps, clipped to the range, neighbours of equal state joined.
// It asks as often as the server's answers fall short of the range.
func (c *Client) BlockStatus(ctx context.Context, metaContext string, off, n int64) ([]Extent, error) {
	var list []Extent
	err := c.WalkExtents(ctx, metaContext, off, n, func(e Extent) error {
		list = appendExtent(list, e)
		return nil
	})
	return list, err
}

// WalkExtents is BlockStatus for ranges whose extents may be too many to hold:
// it hands them to f as they come, where neighbours may have the same state. It
// stops at f's first error and returns it.
func (c *Client) WalkExtents(ctx context.Context, metaContext string, off, n int64, f func(Extent) error) error {
	what := fmt.Sprintf("block status (%s) of %d bytes at %d", metaContext, n, off)
	if off < 0 || n < 0 || off > c.info.Size || n > c.info.Size-off {
		return c.wrap(what, fmt.Errorf("not within the export's %d bytes: %w", c.info.Size, syscall.EINVAL))
	}
	if !slices.Contains(c.info.Contexts, metaContext) {
		return c.wrap(what, ErrNoContext)
	}
	end, block := off+n, int64(c.info.MinBlock)
	for at := off; at < end; {
		lo := at - at%block
		cl := c.newCall(cmdBlockStatus, 0, lo, min(alignUp(end, block, c.info.Size)-lo, maxBodyless))
		if _, err := c.do(ctx, what, []*call{cl}); err != nil {
			return err
		}
		next := at
		for _, e := range cl.extents[c.contextID(metaContext)] {
			lo, hi := max(e.Offset, at), min(e.Offset+e.Length, end)
			if lo >= hi {
				continue
			}
			if err := f(Extent{lo, hi - lo, e.Flags}); err != nil {
				return err
			}
			next = hi
		}
		if next == at {
			return c.wrap(what, violation("the extents end at or before %d", at))
		}
		at = next
	}
	return nil
}

func (c *Client) contextID(name string) uint32 {
	for id, n := range c.contexts {
		if n == name {
			return id
		}
	}
	return 0 // not reached: the name was looked up in Info.Contexts
}
