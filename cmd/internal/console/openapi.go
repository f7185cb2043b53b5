package console

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/goccy/go-yaml"
)

//go:embed openapi.yaml
var openapiYAML []byte

// OpenAPI is the description of the API, as JSON.
var OpenAPI = sync.OnceValues(func() (json.RawMessage, error) {
	text, err := yaml.YAMLToJSON(openapiYAML)
	if err != nil {
		return nil, fmt.Errorf("read the embedded description of the API: %w", err)
	}
	return text, nil
})

func (s *Server) openapi(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	return OpenAPI()
}

var _ http.Handler = (*Server)(nil)
