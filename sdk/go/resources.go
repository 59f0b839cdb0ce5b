package arouter

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Model a provider offers.
type Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// ListModels of the default provider.
func (c *Client) ListModels(ctx context.Context) ([]Model, error) {
	var answer struct {
		Data []Model `json:"data"`
	}
	err := c.call(ctx, http.MethodGet, "/v1/models", nil, &answer)
	return answer.Data, err
}

// EmbeddingRequest asks for vectors. Input is a string or a list of them.
type EmbeddingRequest struct {
	Model      string `json:"model"`
	Input      any    `json:"input"`
	Dimensions *int   `json:"dimensions,omitempty"`
	User       string `json:"user,omitempty"`
}

// EmbeddingResponse holds one vector for each input.
type EmbeddingResponse struct {
	Model string      `json:"model"`
	Data  []Embedding `json:"data"`
	Usage *Usage      `json:"usage"`
}

// Embedding of the input at Index.
type Embedding struct {
	Index     int       `json:"index"`
	Embedding []float64 `json:"embedding"`
}

// CreateEmbedding of one or more texts.
func (c *Client) CreateEmbedding(ctx context.Context, request EmbeddingRequest) (*EmbeddingResponse, error) {
	var answer EmbeddingResponse
	if err := c.call(ctx, http.MethodPost, "/v1/embeddings", request, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// ProxyRequest posts to any path of a provider, and returns its answer as it came; close its body. The request's body is
// JSON: bytes, a reader, or a value to be encoded; nil makes a GET. An answer of 400 and more is an *APIError.
func (c *Client) ProxyRequest(ctx context.Context, provider, path string, body any) (*http.Response, error) {
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	return c.send(ctx, method, "/"+url.PathEscape(provider)+"/"+strings.TrimLeft(path, "/"), body, "*/*")
}

// Key as the gateway shows it. Usage is in tokens.
type Key struct {
	Hash             string   `json:"hash"`
	Name             string   `json:"name"`
	Label            string   `json:"label"`
	KeyType          string   `json:"key_type"`
	Disabled         bool     `json:"disabled"`
	CreatedAt        string   `json:"created_at"`
	UpdatedAt        string   `json:"updated_at"`
	ExpiresAt        string   `json:"expires_at"`
	LastUsedAt       string   `json:"last_used_at"`
	AllowedProviders []string `json:"allowed_providers"`
	AllowedModels    []string `json:"allowed_models"`
	Usage            int64    `json:"usage"`
	UsageDaily       int64    `json:"usage_daily"`
	UsageWeekly      int64    `json:"usage_weekly"`
	UsageMonthly     int64    `json:"usage_monthly"`
}

// CreateKeyRequest says what a new key may do. ExpiresAt is RFC 3339; nil lists allow everything.
type CreateKeyRequest struct {
	Name             string   `json:"name"`
	ExpiresAt        string   `json:"expires_at,omitempty"`
	AllowedProviders []string `json:"allowed_providers,omitempty"`
	AllowedModels    []string `json:"allowed_models,omitempty"`
}

// CreatedKey is a key with the secret itself, which is shown this once.
type CreatedKey struct {
	Data Key    `json:"data"`
	Key  string `json:"key"`
}

// CreateKey needs a management key, as the three below do.
func (c *Client) CreateKey(ctx context.Context, request CreateKeyRequest) (*CreatedKey, error) {
	var answer CreatedKey
	if err := c.call(ctx, http.MethodPost, "/api/v1/keys", request, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// ListKeysOptions choose a page; the zero value is the first one.
type ListKeysOptions struct {
	PageSize        int
	PageToken       string
	Offset          int
	ExcludeDisabled bool
}

// KeyList is a page of keys. NextPageToken is empty on the last one.
type KeyList struct {
	Data          []Key  `json:"data"`
	NextPageToken string `json:"next_page_token"`
}

// ListKeys returns a page of keys, oldest first.
func (c *Client) ListKeys(ctx context.Context, options ListKeysOptions) (*KeyList, error) {
	values := url.Values{}
	if options.PageSize > 0 {
		values.Set("page_size", strconv.Itoa(options.PageSize))
	}
	if options.PageToken != "" {
		values.Set("page_token", options.PageToken)
	}
	if options.Offset > 0 {
		values.Set("offset", strconv.Itoa(options.Offset))
	}
	if options.ExcludeDisabled {
		values.Set("include_disabled", "false")
	}
	var answer KeyList
	if err := c.call(ctx, http.MethodGet, "/api/v1/keys"+query(values), nil, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// UpdateKeyRequest holds the changes; nil fields stay. To clear a limit, put its JSON name into Clear.
type UpdateKeyRequest struct {
	Name             *string
	Disabled         *bool
	ExpiresAt        *string
	AllowedProviders []string
	AllowedModels    []string
	Clear            []string
}

// UpdateKey changes a key, by its hash.
func (c *Client) UpdateKey(ctx context.Context, hash string, request UpdateKeyRequest) (*Key, error) {
	changes := map[string]any{}
	if request.Name != nil {
		changes["name"] = *request.Name
	}
	if request.Disabled != nil {
		changes["disabled"] = *request.Disabled
	}
	if request.ExpiresAt != nil {
		changes["expires_at"] = *request.ExpiresAt
	}
	if request.AllowedProviders != nil {
		changes["allowed_providers"] = request.AllowedProviders
	}
	if request.AllowedModels != nil {
		changes["allowed_models"] = request.AllowedModels
	}
	for _, name := range request.Clear {
		changes[name] = nil
	}
	var answer struct {
		Data Key `json:"data"`
	}
	err := c.call(ctx, http.MethodPatch, "/api/v1/keys/"+url.PathEscape(hash), changes, &answer)
	if err != nil {
		return nil, err
	}
	return &answer.Data, nil
}

// DeleteKey deletes a key, by its hash. Its usage stays.
func (c *Client) DeleteKey(ctx context.Context, hash string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(hash), nil, nil)
}

// GetCurrentKey returns the key of this client.
func (c *Client) GetCurrentKey(ctx context.Context) (*Key, error) {
	var answer struct {
		Data Key `json:"data"`
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/key", nil, &answer); err != nil {
		return nil, err
	}
	return &answer.Data, nil
}

// UsageQuery asks for a range of time, RFC 3339 with a zone; everything may be left out. Granularity is hourly, daily or
// monthly.
type UsageQuery struct {
	StartTime   string
	EndTime     string
	ProviderID  string
	Model       string
	KeyID       string
	Granularity string
}

// UsageCounters are sums. EstimatedCostUSD is nil where nothing has a price.
type UsageCounters struct {
	Requests          int64    `json:"requests"`
	InputTokens       int64    `json:"input_tokens"`
	OutputTokens      int64    `json:"output_tokens"`
	TotalTokens       int64    `json:"total_tokens"`
	CacheReadTokens   int64    `json:"cache_read_tokens"`
	CacheWriteTokens  int64    `json:"cache_write_tokens"`
	ReasoningTokens   int64    `json:"reasoning_tokens"`
	EstimatedRequests int64    `json:"estimated_requests"`
	PartialRequests   int64    `json:"partial_requests"`
	UnpricedRequests  int64    `json:"unpriced_requests"`
	EstimatedCostUSD  *float64 `json:"estimated_cost_usd"`
}

// ProviderUsage is the part of one provider.
type ProviderUsage struct {
	ProviderID string `json:"provider_id"`
	UsageCounters
}

// ModelUsage is the part of one model.
type ModelUsage struct {
	ProviderID string `json:"provider_id"`
	Model      string `json:"model"`
	UsageCounters
}

// KeyUsage is the part of one key.
type KeyUsage struct {
	KeyID string `json:"key_id"`
	Name  string `json:"name"`
	UsageCounters
}

// UsageCovered is the range of an answer, and how complete it is.
type UsageCovered struct {
	StartTime       string `json:"start_time"`
	EndTime         string `json:"end_time"`
	AsOf            string `json:"as_of"`
	PendingRequests int64  `json:"pending_requests"`
}

// UsageSummary is the usage in a range of time.
type UsageSummary struct {
	UsageCovered
	TotalRequests     int64           `json:"total_requests"`
	TotalInputTokens  int64           `json:"total_input_tokens"`
	TotalOutputTokens int64           `json:"total_output_tokens"`
	TotalTokens       int64           `json:"total_tokens"`
	EstimatedRequests int64           `json:"estimated_requests"`
	PartialRequests   int64           `json:"partial_requests"`
	UnpricedRequests  int64           `json:"unpriced_requests"`
	EstimatedCostUSD  *float64        `json:"estimated_cost_usd"`
	ByProvider        []ProviderUsage `json:"by_provider"`
	ByModel           []ModelUsage    `json:"by_model"`
	ByKey             []KeyUsage      `json:"by_key"`
}

// UsageDataPoint is one hour, day or month.
type UsageDataPoint struct {
	Timestamp string `json:"timestamp"`
	UsageCounters
}

// UsageTimeSeries is the same over time, without the points in which nothing was booked.
type UsageTimeSeries struct {
	UsageCovered
	Granularity string           `json:"granularity"`
	DataPoints  []UsageDataPoint `json:"data_points"`
}

// GetUsageSummary returns sums: with a live key of its own usage, with a management key of all usage.
func (c *Client) GetUsageSummary(ctx context.Context, asked UsageQuery) (*UsageSummary, error) {
	var answer UsageSummary
	if err := c.call(ctx, http.MethodGet, "/api/usage/summary"+asked.query(), nil, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// GetUsageTimeSeries returns the same per hour, day or month.
func (c *Client) GetUsageTimeSeries(ctx context.Context, asked UsageQuery) (*UsageTimeSeries, error) {
	var answer UsageTimeSeries
	if err := c.call(ctx, http.MethodGet, "/api/usage/timeseries"+asked.query(), nil, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

func (q UsageQuery) query() string {
	values := url.Values{}
	for name, value := range map[string]string{
		"start_time": q.StartTime, "end_time": q.EndTime, "provider_id": q.ProviderID,
		"model": q.Model, "key_id": q.KeyID, "granularity": q.Granularity,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return query(values)
}
