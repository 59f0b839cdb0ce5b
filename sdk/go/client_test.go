package arouter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var ask = ChatCompletionRequest{Model: "m", Messages: []Message{{Role: "user", Content: "Hi"}}}

func serve(t *testing.T, handler http.HandlerFunc, options ...Option) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // until then the server does not notice a client that leaves
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return NewClient(server.URL+"/v1/", "lr_live_x", options...)
}

func say(w http.ResponseWriter, text string) {
	_, _ = io.WriteString(w, text)
	w.(http.Flusher).Flush()
}

func TestARequestIsWhatItSays(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer lr_live_x" {
			t.Errorf("%s with %s", r.URL.Path, r.Header.Get("Authorization"))
		}
		if _, streamed := body["stream"]; streamed || body["seed"] != 7.0 || body["model"] != "m" || body["max_tokens"] != 5.0 {
			t.Errorf("%v", body)
		}
		say(w, `{"id":"1","choices":[{"message":{"role":"assistant","content":"Hello"}}],"usage":{"total_tokens":3}}`)
	})
	request, most := ask, 5
	request.MaxTokens = &most
	request.Extra = map[string]any{"seed": 7, "model": "is named above"}
	answer, err := client.ChatCompletion(context.Background(), request)
	if err != nil || answer.Choices[0].Message.Content != "Hello" || answer.Usage.TotalTokens != 3 {
		t.Fatalf("%+v, %v", answer, err)
	}
}

func TestAStream(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Generation-Id", "B.1.2")
		say(w, ": a comment\n\n")
		say(w, `data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}`+"\n\n")
		say(w, `data:{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}`+"\n\n")
		say(w, `data: {"choices":[],"usage":{"total_tokens":9}}`+"\n\ndata: [DONE]\n\n")
	})
	stream, err := client.ChatCompletionStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var text strings.Builder
	var usage *Usage
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, ErrStreamDone) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(chunk.Text()) // safe on the chunk without choices
		if chunk.Usage != nil {
			usage = chunk.Usage
		}
	}
	if text.String() != "Hello" || usage == nil || usage.TotalTokens != 9 || stream.GenerationID != "B.1.2" {
		t.Fatalf("%q, %v, %q", text.String(), usage, stream.GenerationID)
	}
	if _, err := stream.Recv(); !errors.Is(err, ErrStreamDone) {
		t.Fatalf("%v after the end", err)
	}
}

func TestAStreamThatEndsEarly(t *testing.T) {
	half := `data: {"choices":[{"delta":{"content":"Hel"}}]}` + "\n\n"
	for name, handler := range map[string]http.HandlerFunc{
		"with a clean end": func(w http.ResponseWriter, r *http.Request) { say(w, half) },
		"with a cut": func(w http.ResponseWriter, r *http.Request) {
			say(w, half)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := serve(t, handler).ChatCompletionStream(context.Background(), ask)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < 2; i++ {
				if _, err := stream.Recv(); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%v, want io.ErrUnexpectedEOF", err)
				}
			}
		})
	}
}

func TestAnErrorInAStream(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		say(w, `data: {"error":{"message":"overloaded","type":"server_error","code":503}}`+"\n\n")
	})
	stream, err := client.ChatCompletionStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	_, err = stream.Recv()
	var found *APIError
	if !errors.As(err, &found) || found.Message != "overloaded" || !errors.Is(err, ErrServerError) {
		t.Fatalf("%v", err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		want   error
	}{
		{400, "", ErrBadRequest},
		{401, "", ErrUnauthorized},
		{402, "", ErrQuotaExceeded},
		{403, "", ErrForbidden},
		{404, "", ErrNotFound},
		{413, "", ErrBadRequest},
		{429, "", ErrRateLimited},
		{429, "quota_exceeded", ErrQuotaExceeded},
		{500, "", ErrServerError},
		{503, "", ErrServerError},
	} {
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(test.status)
			fmt.Fprintf(w, `{"error":{"message":"no","type":"t","code":%q}}`, test.code)
		}, WithRetries(0))
		_, err := client.ChatCompletion(context.Background(), ask)
		var found *APIError
		if !errors.Is(err, test.want) || !errors.As(err, &found) || found.StatusCode != test.status || found.Message != "no" {
			t.Errorf("%d %s: %v", test.status, test.code, err)
		}
	}
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(502)
		say(w, "<html>bad gateway</html>")
	}, WithRetries(0))
	if _, err := plain.ListModels(context.Background()); !errors.Is(err, ErrServerError) || !strings.Contains(err.Error(), "bad gateway") {
		t.Errorf("%v", err)
	}
}

func TestRetriesBeforeTheFirstByteOnly(t *testing.T) {
	var asked atomic.Int32
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"Hi"`) {
			t.Errorf("the body is %q", body)
		}
		switch asked.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.Header().Set("Retry-After", "0.01")
			w.WriteHeader(503)
		default:
			say(w, "data: {}\n\n")
			panic(http.ErrAbortHandler)
		}
	})
	stream, err := client.ChatCompletionStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v", err)
	}
	if asked.Load() != 3 {
		t.Fatalf("asked %d times", asked.Load())
	}
}

func TestWhatCannotHelpIsNotRepeated(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 500} {
		var asked atomic.Int32
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.WriteHeader(status)
		})
		if _, err := client.ChatCompletion(context.Background(), ask); err == nil || asked.Load() != 1 {
			t.Errorf("%d: asked %d times, %v", status, asked.Load(), err)
		}
	}
}

func TestContextsAreHonoured(t *testing.T) {
	gone := make(chan struct{}, 2)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			say(w, "data: {}\n\n")
		}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := client.ChatCompletionStream(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	<-gone // the server has noticed
	stream.Close()

	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.ChatCompletion(ctx, ask); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
}

func TestCloseEndsTheRequest(t *testing.T) {
	gone := make(chan struct{})
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		say(w, "data: {}\n\n")
		<-r.Context().Done()
		close(gone)
	})
	stream, err := client.ChatCompletionStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	<-gone
	if _, err := stream.Recv(); err == nil || errors.Is(err, ErrStreamDone) {
		t.Fatalf("%v from a closed stream", err)
	}
}

func TestTheTimeoutIsForTheBeginning(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			<-r.Context().Done()
			return
		}
		say(w, "data: {}\n\n")
		time.Sleep(1500 * time.Millisecond)
		say(w, "data: [DONE]\n\n")
	}, WithTimeout(time.Second))
	if _, err := client.ListModels(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	stream, err := client.ChatCompletionStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, want := range []error{nil, ErrStreamDone} {
		if _, err := stream.Recv(); !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
	}
}

func TestAnAnswerThatIsCutIsAnError(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		say(w, `{"choices":[`)
	})
	if _, err := client.ChatCompletion(context.Background(), ask); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v", err)
	}
}
