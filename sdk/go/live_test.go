package arouter

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"
)

// The same against a running gateway with the demo provider: AROUTER_TEST_URL, _KEY and _MANAGEMENT_KEY name it.
func live(t *testing.T, variable string) *Client {
	t.Helper()
	url, key := os.Getenv("AROUTER_TEST_URL"), os.Getenv(variable)
	if url == "" || key == "" {
		t.Skip("no gateway: AROUTER_TEST_URL is not set")
	}
	return NewClient(url, key)
}

func told(directives string, next http.RoundTripper) *http.Client {
	return &http.Client{Transport: directed{directives, next}}
}

// directed tells the demo provider how to answer.
type directed struct {
	directives string
	next       http.RoundTripper
}

func (d directed) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("X-Demo", d.directives)
	return d.next.RoundTrip(r)
}

func TestLiveChat(t *testing.T) {
	client, ctx := live(t, "AROUTER_TEST_KEY"), context.Background()
	whole, err := client.ChatCompletion(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	request := ask
	request.StreamOptions = &StreamOptions{IncludeUsage: true}
	stream, err := client.ChatCompletionStream(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	text, chunks := "", 0
	for ; ; chunks++ {
		chunk, err := stream.Recv()
		if errors.Is(err, ErrStreamDone) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text += chunk.Text()
		if chunk.Usage != nil && chunk.Usage.CompletionTokens != whole.Usage.CompletionTokens {
			t.Errorf("%+v streamed, %+v whole", chunk.Usage, whole.Usage)
		}
	}
	if text != whole.Choices[0].Message.Content || chunks < 3 || stream.GenerationID == "" {
		t.Fatalf("%q in %d chunks, whole %q", text, chunks, whole.Choices[0].Message.Content)
	}
}

func TestLiveStreamThatIsCut(t *testing.T) {
	for _, directives := range []string{"cut", "reset", "truncate"} {
		client := live(t, "AROUTER_TEST_KEY")
		client.http = told(directives, http.DefaultTransport)
		stream, err := client.ChatCompletionStream(context.Background(), ask)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		stream.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, want io.ErrUnexpectedEOF", directives, err)
		}
	}
}

func TestLiveErrors(t *testing.T) {
	client := live(t, "AROUTER_TEST_KEY")
	client.retries = 0
	if _, err := NewClient(client.baseURL, "lr_live_0").ListModels(context.Background()); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("%v", err)
	}
	if _, err := client.CreateKey(context.Background(), CreateKeyRequest{Name: "x"}); !errors.Is(err, ErrForbidden) {
		t.Errorf("%v", err)
	}
	client.http = told("status=429", http.DefaultTransport)
	if _, err := client.ChatCompletion(context.Background(), ask); !errors.Is(err, ErrRateLimited) {
		t.Errorf("%v", err)
	}
	client.http = told("error", http.DefaultTransport)
	stream, err := client.ChatCompletionStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for err == nil {
		_, err = stream.Recv()
	}
	var found *APIError
	if !errors.As(err, &found) {
		t.Errorf("%v, want the provider's error", err)
	}
}

func TestLiveOtherCalls(t *testing.T) {
	client, ctx := live(t, "AROUTER_TEST_KEY"), context.Background()
	if models, err := client.ListModels(ctx); err != nil || len(models) == 0 {
		t.Errorf("%v, %v", models, err)
	}
	vectors, err := client.CreateEmbedding(ctx, EmbeddingRequest{Model: "embed", Input: []string{"a", "b"}})
	if err != nil || len(vectors.Data) == 0 || len(vectors.Data[0].Embedding) == 0 {
		t.Errorf("%v, %v", vectors, err)
	}
	answer, err := client.ProxyRequest(ctx, "anthropic", "/v1/messages", map[string]any{
		"model": "claude", "max_tokens": 9, "messages": ask.Messages,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || len(body) == 0 {
		t.Errorf("%q, %v", body, err)
	}
}

func TestLiveKeysAndUsage(t *testing.T) {
	manager, ctx := live(t, "AROUTER_TEST_MANAGEMENT_KEY"), context.Background()
	made, err := manager.CreateKey(ctx, CreateKeyRequest{Name: "go", AllowedModels: []string{"m"}})
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(manager.baseURL, made.Key)
	if _, err := client.ChatCompletion(ctx, ask); err != nil {
		t.Fatal(err)
	}
	own, err := client.GetCurrentKey(ctx)
	if err != nil || own.Hash != made.Data.Hash {
		t.Errorf("%+v, %v", own, err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		usage, err := client.GetUsageSummary(ctx, UsageQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if usage.TotalRequests == 1 && usage.ByModel[0].Model == "m" && usage.PendingRequests == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", usage)
		}
		time.Sleep(100 * time.Millisecond)
	}
	series, err := manager.GetUsageTimeSeries(ctx, UsageQuery{KeyID: made.Data.Hash, Granularity: "hourly"})
	if err != nil || len(series.DataPoints) != 1 || series.DataPoints[0].Requests != 1 {
		t.Errorf("%+v, %v", series, err)
	}
	name, off := "renamed", true
	changed, err := manager.UpdateKey(ctx, made.Data.Hash, UpdateKeyRequest{
		Name: &name, Disabled: &off, Clear: []string{"allowed_models"},
	})
	if err != nil || changed.Name != name || !changed.Disabled || changed.AllowedModels != nil {
		t.Errorf("%+v, %v", changed, err)
	}
	seen := false
	for options := (ListKeysOptions{PageSize: 3}); ; {
		page, err := manager.ListKeys(ctx, options)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range page.Data {
			seen = seen || key.Hash == made.Data.Hash
		}
		if options.PageToken = page.NextPageToken; options.PageToken == "" {
			break
		}
	}
	if !seen {
		t.Error("the key is not listed")
	}
	if err := manager.DeleteKey(ctx, made.Data.Hash); err != nil {
		t.Error(err)
	}
	if err := manager.DeleteKey(ctx, made.Data.Hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
