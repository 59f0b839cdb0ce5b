// Package arouter is a client of an arouter gateway: chat completions, streamed or not, embeddings, any path of any
// provider, keys and usage. It needs the standard library alone.
//
//	client := arouter.NewClient("https://llm.example.com", "lr_live_…")
//	stream, err := client.ChatCompletionStream(ctx, arouter.ChatCompletionRequest{
//		Model:    "gpt-4o-mini",
//		Messages: []arouter.Message{{Role: "user", Content: "Hi"}},
//	})
//	if err != nil {
//		return err
//	}
//	defer stream.Close()
//	for {
//		chunk, err := stream.Recv()
//		if errors.Is(err, arouter.ErrStreamDone) {
//			break
//		}
//		if err != nil {
//			return err // io.ErrUnexpectedEOF where the stream broke off: the answer is not whole
//		}
//		fmt.Print(chunk.Text())
//	}
//
// Errors of the gateway and of providers are [*APIError], and unwrap to one of the Err values of this package. A request
// is repeated (twice, see [WithRetries]) only while no byte of an answer has come. The end of a context also ends its
// streams.
package arouter
