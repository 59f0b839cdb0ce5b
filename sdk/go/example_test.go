package arouter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"arouter"
)

// gateway stands in for a real one: it says the same thing to everybody.
func gateway() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/chat/completions":
			fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"Once upon "}}]}`, "\n\n")
			fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"a time."}}]}`, "\n\n")
			fmt.Fprint(w, `data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":5,"total_tokens":9}}`, "\n\n")
			fmt.Fprint(w, "data: [DONE]\n\n")
		case "/v1/models":
			fmt.Fprint(w, `{"data":[{"id":"gpt-4o-mini"}]}`)
		case "/api/usage/summary":
			fmt.Fprint(w, `{"total_requests":3,"total_tokens":27,"pending_requests":1}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":{"message":"no such route","type":"not_found_error"}}`)
		}
	}))
}

func ExampleClient_ChatCompletionStream() {
	server := gateway()
	defer server.Close()

	client := arouter.NewClient(server.URL, "lr_live_…")
	stream, err := client.ChatCompletionStream(context.Background(), arouter.ChatCompletionRequest{
		Model:         "gpt-4o-mini",
		Messages:      []arouter.Message{{Role: "user", Content: "Tell me a story."}},
		StreamOptions: &arouter.StreamOptions{IncludeUsage: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, arouter.ErrStreamDone) {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			log.Fatal("the answer was cut off")
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(chunk.Text())
		if chunk.Usage != nil {
			fmt.Printf("\n%d tokens\n", chunk.Usage.TotalTokens)
		}
	}
	// Output:
	// Once upon a time.
	// 9 tokens
}

func ExampleClient_ListModels() {
	server := gateway()
	defer server.Close()

	models, err := arouter.NewClient(server.URL, "lr_live_…").ListModels(context.Background())
	fmt.Println(models[0].ID, err)
	// Output: gpt-4o-mini <nil>
}

func ExampleClient_GetUsageSummary() {
	server := gateway()
	defer server.Close()

	client := arouter.NewClient(server.URL, "lr_live_…")
	usage, err := client.GetUsageSummary(context.Background(), arouter.UsageQuery{StartTime: "2026-11-01T00:00:00Z"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d requests, %d tokens, %d to come\n", usage.TotalRequests, usage.TotalTokens, usage.PendingRequests)
	// Output: 3 requests, 27 tokens, 1 to come
}

func ExampleAPIError() {
	server := gateway()
	defer server.Close()

	_, err := arouter.NewClient(server.URL, "lr_live_…").GetCurrentKey(context.Background())
	var refused *arouter.APIError
	if errors.As(err, &refused) {
		fmt.Println(refused.StatusCode, refused.Message, errors.Is(err, arouter.ErrNotFound))
	}
	// Output: 404 no such route true
}
