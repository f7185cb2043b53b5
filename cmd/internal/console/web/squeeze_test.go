package web_test

import (
	"bytes"
	"cmp"
	"context"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"slices"
	"testing"
)

type contextT = context.Context

// squeeze makes a picture of at most 256 colours: pages have few, but
// smoothed letters have many that nobody tells apart, and a third of the bytes
// is enough.
func squeeze(t *testing.T, in []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	bounds := img.Bounds()
	flat := image.NewRGBA(bounds)
	draw.Draw(flat, bounds, img, bounds.Min, draw.Src)
	counts := map[color.RGBA]int{}
	at := flat.RGBAAt
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	all := make([]color.RGBA, 0, len(counts))
	for c := range counts {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	palette := choose(all)
	nearest := map[color.RGBA]uint8{}
	out := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, ok := nearest[c]
			if !ok {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, out); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// choose takes the most frequent colours that differ enough from those taken.
func choose(all []color.RGBA) color.Palette {
	var p color.Palette
	far := func(a, b uint8) int { return (int(a) - int(b)) * (int(a) - int(b)) }
	for least := 300; len(p) < 256 && least >= 0; least -= 100 {
		for _, c := range all[:min(len(all), 4000)] {
			if len(p) == 256 {
				break
			}
			if !slices.ContainsFunc(p, func(o color.Color) bool {
				r := o.(color.RGBA)
				return far(r.R, c.R)+far(r.G, c.G)+far(r.B, c.B) <= least
			}) {
				p = append(p, c)
			}
		}
	}
	return p
}
