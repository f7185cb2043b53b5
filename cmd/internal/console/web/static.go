package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
)

//go:embed static
var embedded embed.FS

// importOf finds a module's imports of its neighbours: from "./live.js".
var importOf = regexp.MustCompile(`(from |import )"\./([a-z]+\.js)"`)

// assets are the embedded files under names that carry their content's hash,
// so that browsers may keep them for a year and still never show an old one.
type assets struct {
	hashed map[string]string // "app.css" -> "app-0123456789.css"
	files  map[string][]byte // by hashed name
}

func newAssets(files fs.FS) (*assets, error) {
	a := &assets{hashed: map[string]string{}, files: map[string][]byte{}}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read the embedded files: %w", err)
	}
	for _, e := range entries {
		if _, err := a.add(files, e.Name(), nil); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add hashes a file after the modules that it imports, whose names it carries:
// a change in one renames all that reach it.
func (a *assets) add(files fs.FS, name string, above []string) (string, error) {
	if h, ok := a.hashed[name]; ok {
		return h, nil
	}
	for _, up := range above {
		if up == name {
			return "", fmt.Errorf("module %s imports itself through %s", name, strings.Join(above, ", "))
		}
	}
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return "", fmt.Errorf("read embedded %s: %w", name, err)
	}
	if path.Ext(name) == ".js" {
		content = importOf.ReplaceAllFunc(content, func(m []byte) []byte {
			part := importOf.FindSubmatch(m)
			h, e := a.add(files, string(part[2]), append(above, name))
			if e != nil {
				err = e
			}
			return fmt.Appendf(nil, `%s"./%s"`, part[1], h)
		})
		if err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256(content)
	ext := path.Ext(name)
	h := strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:5]) + ext
	a.hashed[name], a.files[h] = h, content
	return h, nil
}

func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	content, ok := a.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(content) // the client has gone: nobody to tell
}
