package arouter

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// The errors that an [*APIError] unwraps to, for errors.Is.
var (
	ErrBadRequest    = errors.New("arouter: bad request")
	ErrUnauthorized  = errors.New("arouter: unauthorized")
	ErrForbidden     = errors.New("arouter: forbidden")
	ErrNotFound      = errors.New("arouter: not found")
	ErrRateLimited   = errors.New("arouter: rate limited")
	ErrQuotaExceeded = errors.New("arouter: quota exceeded")
	ErrServerError   = errors.New("arouter: server error")
)

// ErrStreamDone is what Recv returns after the stream's own end, "[DONE]".
var ErrStreamDone = errors.New("arouter: stream done")

// APIError is an error answer. An error inside a stream has StatusCode 200.
type APIError struct {
	StatusCode int
	Code       string // "quota_exceeded" and the like; often empty
	Type       string // "invalid_request_error" and the like
	Message    string
}

func (e *APIError) Error() string {
	return fmt.Sprintf("arouter: HTTP %d: %s", e.StatusCode, e.Message)
}

// Unwrap returns this package's error for the status, or nil.
func (e *APIError) Unwrap() error {
	switch {
	case e.Code == "quota_exceeded" || e.StatusCode == http.StatusPaymentRequired:
		return ErrQuotaExceeded
	case e.StatusCode == http.StatusTooManyRequests:
		return ErrRateLimited
	case e.StatusCode == http.StatusUnauthorized:
		return ErrUnauthorized
	case e.StatusCode == http.StatusForbidden:
		return ErrForbidden
	case e.StatusCode == http.StatusNotFound:
		return ErrNotFound
	case e.StatusCode >= 500 || e.StatusCode == http.StatusOK:
		return ErrServerError
	case e.StatusCode >= 400:
		return ErrBadRequest
	}
	return nil
}

// errorBody is the envelope of every dialect: {"error": {…}}. Google's code is a number.
type errorBody struct {
	Error *struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
	} `json:"error"`
}

// apiError parses an error body; nil where the body holds none.
func apiError(status int, body []byte) *APIError {
	var found errorBody
	if json.Unmarshal(body, &found) != nil || found.Error == nil {
		return nil
	}
	var code string
	if json.Unmarshal(found.Error.Code, &code) != nil {
		code = "" // a number, which is the status again
	}
	return &APIError{StatusCode: status, Code: code, Type: found.Error.Type, Message: found.Error.Message}
}
