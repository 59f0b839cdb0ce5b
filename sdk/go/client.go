package arouter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	defaultRetries  = 2
	firstPause      = 250 * time.Millisecond
	longestPause    = 8 * time.Second
	longestError    = 1 << 20
	drainedOnClose  = 64 << 10
	contentTypeJSON = "application/json"
)

// Client speaks to one gateway with one key. It may be used by many goroutines at once.
type Client struct {
	baseURL string
	apiKey  string
	http    *http.Client
	timeout time.Duration
	retries int
}

// Option changes a Client that is being made.
type Option func(*Client)

// WithHTTPClient uses this client instead of one of its own. A Timeout set on it holds for whole streams; WithTimeout
// does not.
func WithHTTPClient(client *http.Client) Option {
	return func(c *Client) { c.http = client }
}

// WithTimeout bounds the time until an answer begins (its headers; ten minutes unless it is set, because reasoning
// models are silent for that long). A stream that has begun is bounded by its context alone.
func WithTimeout(timeout time.Duration) Option {
	return func(c *Client) { c.timeout = timeout }
}

// WithRetries sets how often a request is repeated that failed before any byte of an answer came, or was answered with
// 429, 502, 503 or 504. The default is 2.
func WithRetries(retries int) Option {
	return func(c *Client) { c.retries = retries }
}

// NewClient makes a client of the gateway at baseURL, with or without "/v1" at its end.
func NewClient(baseURL, apiKey string, options ...Option) *Client {
	base := strings.TrimSuffix(strings.TrimRight(baseURL, "/"), "/v1")
	client := &Client{baseURL: base, apiKey: apiKey, timeout: 10 * time.Minute, retries: defaultRetries}
	for _, option := range options {
		option(client)
	}
	if client.http == nil {
		client.http = &http.Client{}
	}
	return client
}

// call sends a request and decodes the JSON of its answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.send(ctx, method, path, in, contentTypeJSON)
	if err != nil {
		return err
	}
	defer drain(answer.Body)
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("arouter: reading the answer: %w", err)
	}
	return nil
}

// send sends a request, with retries, until an answer begins. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, in any, accept string) (*http.Response, error) {
	body, err := encode(in)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		answer, err := c.once(ctx, method, path, body, accept)
		if err == nil && answer.StatusCode < 400 {
			return answer, nil
		}
		var wait time.Duration
		if err == nil {
			wait = retryAfter(answer.Header)
			again := worthTrying(answer.StatusCode)
			err = failure(answer)
			if !again {
				return nil, err
			}
		}
		if attempt >= c.retries || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if !pause(ctx, attempt, wait) {
			return nil, ctx.Err()
		}
	}
}

// once sends a request once. The timeout ends with the answer's headers; the body has no limit.
func (c *Client) once(ctx context.Context, method, path string, body []byte, accept string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, method, c.baseURL+path, bytes.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("arouter: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.apiKey)
	request.Header.Set("Accept", accept)
	request.Header.Set("User-Agent", "arouter-go")
	if body != nil {
		request.Header.Set("Content-Type", contentTypeJSON)
	}
	var timer *time.Timer
	if c.timeout > 0 {
		timer = time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
	}
	answer, err := c.http.Do(request)
	if timer != nil {
		timer.Stop()
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, fmt.Errorf("arouter: %w", err)
	}
	answer.Body = &cancelling{answer.Body, cancel}
	return answer, nil
}

// cancelling releases a request's context when its body is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *cancelling) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

func encode(in any) ([]byte, error) {
	switch value := in.(type) {
	case nil:
		return nil, nil
	case []byte:
		return value, nil
	case json.RawMessage:
		return value, nil
	case io.Reader:
		return io.ReadAll(value) // it may have to be sent again
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("arouter: %w", err)
	}
	return body, nil
}

func failure(answer *http.Response) error {
	defer drain(answer.Body)
	body, _ := io.ReadAll(io.LimitReader(answer.Body, longestError))
	if found := apiError(answer.StatusCode, body); found != nil {
		return found
	}
	message := strings.TrimSpace(string(body))
	if message == "" {
		message = http.StatusText(answer.StatusCode)
	}
	return &APIError{StatusCode: answer.StatusCode, Message: message}
}

func worthTrying(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(header.Get("Retry-After"), 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, longestPause.Seconds()) * float64(time.Second))
}

// pause waits before the next attempt; false where the context ends first.
func pause(ctx context.Context, attempt int, asked time.Duration) bool {
	wait := firstPause << min(attempt, 10)
	wait = wait/2 + time.Duration(rand.Int63n(int64(wait/2)+1)) // so that many clients do not retry at once
	wait = min(max(wait, asked), longestPause)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// drain reads a short rest of a body, so that the connection can be reused, and closes the body.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, drainedOnClose)
	_ = body.Close()
}

// query encodes the values that are set as a query string.
func query(values url.Values) string {
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}
