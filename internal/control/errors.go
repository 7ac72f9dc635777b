package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Failure is the body of every answer that is no success.
type Failure struct {
	// Error is one sentence: what was asked, what is in the way, what to do.
	Error string `json:"error"`
}

// failures makes what http.Error says, here or in net/http itself, a Failure.
type failures struct {
	http.ResponseWriter
	failed bool
}

// Unwrap is for http.ResponseController.
func (f *failures) Unwrap() http.ResponseWriter { return f.ResponseWriter }

func (f *failures) WriteHeader(status int) {
	h := f.Header()
	if status >= 400 && strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
		f.failed = true
		h.Set("Content-Type", "application/json")
	}
	f.ResponseWriter.WriteHeader(status)
}

func (f *failures) Write(b []byte) (int, error) {
	if !f.failed {
		return f.ResponseWriter.Write(b)
	}
	if err := json.NewEncoder(f.ResponseWriter).Encode(Failure{strings.TrimSpace(string(b))}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// guard stands before all routes.
func (s *Server) guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		w := &failures{ResponseWriter: to}
		defer func() {
			// One request that fails is no reason to end the endpoint, nor to
			// fill its log.
			if p := recover(); p == http.ErrAbortHandler {
				panic(p)
			} else if p != nil {
				http.Error(w, fmt.Sprintf("%s %s failed within the endpoint: %v", r.Method, r.URL.Path, p), http.StatusInternalServerError)
			}
		}()
		if g := asker(r); g != nil && g.refused != nil {
			w.Header().Set("Connection", "close")
			status := http.StatusForbidden
			if g.refused == errBusy {
				status = http.StatusServiceUnavailable
			}
			http.Error(w, g.refused.Error(), status)
			return
		}
		if r.ContentLength == 0 { // else once all of it has come
			defer asker(r).serve()()
		}
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// net/http knows best whether it is the path or the method that is
		// wrong, and which methods there are.
		status := &statusOnly{header: w.Header()}
		handler.ServeHTTP(status, r)
		text := fmt.Sprintf("govxlan %s has no %s %s", s.version, r.Method, r.URL.Path)
		if allow := w.Header().Get("Allow"); allow != "" {
			text += ", only " + allow
		}
		http.Error(w, text, status.code)
	})
}

// statusOnly takes of an answer its header and its status.
type statusOnly struct {
	header http.Header
	code   int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(code int)        { s.code = code }
