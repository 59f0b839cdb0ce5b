package arouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ChatCompletionRequest is a chat, as in OpenAI's API. Model may name its provider: "anthropic/claude-…".
type ChatCompletionRequest struct {
	Model            string          `json:"model"`
	Messages         []Message       `json:"messages"`
	Temperature      *float64        `json:"temperature,omitempty"`
	TopP             *float64        `json:"top_p,omitempty"`
	N                *int            `json:"n,omitempty"`
	Stop             []string        `json:"stop,omitempty"`
	MaxTokens        *int            `json:"max_tokens,omitempty"`
	PresencePenalty  *float64        `json:"presence_penalty,omitempty"`
	FrequencyPenalty *float64        `json:"frequency_penalty,omitempty"`
	Tools            []Tool          `json:"tools,omitempty"`
	ToolChoice       any             `json:"tool_choice,omitempty"`
	ResponseFormat   *ResponseFormat `json:"response_format,omitempty"`
	User             string          `json:"user,omitempty"`
	StreamOptions    *StreamOptions  `json:"stream_options,omitempty"`

	// Extra fields of the body, which this struct does not name. They take precedence over the fields above.
	Extra map[string]any `json:"-"`
}

// StreamOptions of a streamed chat.
type StreamOptions struct {
	IncludeUsage bool `json:"include_usage"` // one more chunk at the end, without choices, with the usage
}

// Message of a chat. Content is a string, or a list of parts where the provider takes one.
type Message struct {
	Role       string     `json:"role"`
	Content    any        `json:"content"`
	Name       string     `json:"name,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

// ToolCall is a call that a model asks for. In a stream it comes in pieces; those of one call share an Index.
type ToolCall struct {
	Index    *int         `json:"index,omitempty"`
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function FunctionCall `json:"function"`
}

// FunctionCall names a function and its arguments, as JSON.
type FunctionCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments,omitempty"`
}

// Tool that a model may call.
type Tool struct {
	Type     string   `json:"type"`
	Function Function `json:"function"`
}

// Function a tool stands for. Parameters is a JSON schema.
type Function struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Parameters  any    `json:"parameters,omitempty"`
}

// ResponseFormat asks for JSON.
type ResponseFormat struct {
	Type       string `json:"type"`
	JSONSchema any    `json:"json_schema,omitempty"`
}

// ChatCompletionResponse is a whole answer.
type ChatCompletionResponse struct {
	ID      string   `json:"id"`
	Model   string   `json:"model"`
	Created int64    `json:"created"`
	Choices []Choice `json:"choices"`
	Usage   *Usage   `json:"usage"`
}

// Choice of an answer, or a piece of one: Message in the first, Delta in the second.
type Choice struct {
	Index        int     `json:"index"`
	Message      Message `json:"message"`
	Delta        Delta   `json:"delta"`
	FinishReason string  `json:"finish_reason"`
}

// Delta is the part of an answer that a chunk adds.
type Delta struct {
	Role      string     `json:"role"`
	Content   string     `json:"content"`
	Refusal   string     `json:"refusal"`
	ToolCalls []ToolCall `json:"tool_calls"`
}

// Usage as the provider reports it.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// ChatCompletionChunk is one event of a stream. Choices is empty in the one that carries the usage.
type ChatCompletionChunk struct {
	ID      string   `json:"id"`
	Model   string   `json:"model"`
	Created int64    `json:"created"`
	Choices []Choice `json:"choices"`
	Usage   *Usage   `json:"usage"`
}

// Text is the text that the chunk adds to the first choice, "" for none.
func (c *ChatCompletionChunk) Text() string {
	for _, choice := range c.Choices {
		if choice.Index == 0 {
			return choice.Delta.Content
		}
	}
	return ""
}

// ChatCompletion asks for a whole answer.
func (c *Client) ChatCompletion(ctx context.Context, request ChatCompletionRequest) (*ChatCompletionResponse, error) {
	var answer ChatCompletionResponse
	if err := c.call(ctx, http.MethodPost, "/v1/chat/completions", chatBody{request, false}, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// ChatCompletionStream asks for an answer as it is produced. Close the stream when you are done with it; that, or the
// end of the context, also stops the model.
func (c *Client) ChatCompletionStream(
	ctx context.Context, request ChatCompletionRequest,
) (*ChatCompletionStream, error) {
	answer, err := c.send(ctx, http.MethodPost, "/v1/chat/completions", chatBody{request, true}, "text/event-stream")
	if err != nil {
		return nil, err
	}
	return &ChatCompletionStream{
		GenerationID: answer.Header.Get("X-Generation-Id"),
		body:         answer.Body,
		events:       newEventReader(answer.Body),
	}, nil
}

// ChatCompletionStream is an answer on its way. It belongs to one goroutine; Close may be called from another.
type ChatCompletionStream struct {
	GenerationID string // the id under which the gateway books it

	body   io.ReadCloser
	events *eventReader
	err    error
}

// Recv returns the next chunk; ErrStreamDone after the last one; io.ErrUnexpectedEOF where the stream breaks off, so
// that the answer is not whole; *APIError where the provider reports an error in the stream.
func (s *ChatCompletionStream) Recv() (*ChatCompletionChunk, error) {
	if s.err != nil {
		return nil, s.err
	}
	chunk, err := s.next()
	s.err = err
	return chunk, err
}

func (s *ChatCompletionStream) next() (*ChatCompletionChunk, error) {
	data, err := s.events.next()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("arouter: the stream broke off: %w", err)
	}
	if string(data) == "[DONE]" {
		return nil, ErrStreamDone
	}
	if found := apiError(http.StatusOK, data); found != nil {
		return nil, found
	}
	var chunk ChatCompletionChunk
	if err := json.Unmarshal(data, &chunk); err != nil {
		return nil, fmt.Errorf("arouter: a chunk is no JSON: %w", err)
	}
	return &chunk, nil
}

// Close ends the stream, whether it has been read to its end or not.
func (s *ChatCompletionStream) Close() error {
	return s.body.Close()
}

// chatBody is a request with its extra fields, and whether it is streamed.
type chatBody struct {
	request ChatCompletionRequest
	stream  bool
}

func (b chatBody) MarshalJSON() ([]byte, error) {
	plain, err := json.Marshal(b.request)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]any, len(b.request.Extra)+8)
	for name, value := range b.request.Extra {
		fields[name] = value
	}
	var named map[string]json.RawMessage
	if err := json.Unmarshal(plain, &named); err != nil {
		return nil, err
	}
	for name, value := range named {
		fields[name] = value
	}
	if b.stream {
		fields["stream"] = true
	}
	return json.Marshal(fields)
}
