// The official Node SDKs, with the base URL and the key changed and nothing else; against a gateway with the demo
// provider, whose address and key stand in AROUTER_TEST_URL and AROUTER_TEST_KEY.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOpenAI } from '@ai-sdk/openai'
import Anthropic from '@anthropic-ai/sdk'
import { generateText, streamText } from 'ai'
import OpenAI from 'openai'

const url = process.env.AROUTER_TEST_URL
const apiKey = process.env.AROUTER_TEST_KEY
const messages = [{ role: 'user', content: 'Tell me a story.' }]
const told = (directives) => ({ headers: { 'x-demo': directives } })

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })
const anthropic = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 })

test('openai: a whole answer and a streamed one say the same', async () => {
  const whole = await openai.chat.completions.create({ model: 'gpt-4o', messages })
  const stream = await openai.chat.completions.create({
    model: 'gpt-4o', messages, stream: true, stream_options: { include_usage: true },
  })
  let text = ''
  let usage
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? ''
    usage = chunk.usage ?? usage
  }
  assert.equal(text, whole.choices[0].message.content)
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens)
})

test('openai: responses, embeddings and models', async () => {
  const stream = await openai.responses.create({ model: 'gpt-4o', input: 'Hi', stream: true })
  const types = []
  for await (const event of stream) types.push(event.type)
  assert.equal(types.at(-1), 'response.completed')
  assert.ok(types.includes('response.output_text.delta'))
  const vectors = await openai.embeddings.create({ model: 'embed', input: 'Hi' })
  assert.ok(vectors.data[0].embedding.length > 0)
  assert.ok((await openai.models.list()).data.length > 0)
})

test('openai: events come one by one', async () => {
  const stream = await openai.chat.completions.create(
    { model: 'gpt-4o', messages, stream: true }, told('tokens=5, pace=100'),
  )
  const at = []
  for await (const _ of stream) at.push(performance.now())
  assert.ok(at.at(-1) - at[0] > 300, 'they are spread as they were sent')
})

test('openai: a stream that is aborted ends here and at the provider', async () => {
  const { data: stream, response } = await openai.chat.completions.create(
    { model: 'gpt-4o', messages, stream: true }, told('tokens=500, pace=20'),
  ).withResponse()
  assert.match(response.headers.get('x-generation-id'), /^\w{26}\.\d+\.\d+$/)
  let chunks = 0
  for await (const _ of stream) {
    if (++chunks === 3) stream.controller.abort()
  }
  assert.ok(chunks < 500)
})

test('openai: what breaks off is an error', async () => {
  for (const directive of ['cut', 'reset']) {
    await assert.rejects(async () => {
      const stream = await openai.chat.completions.create({ model: 'gpt-4o', messages, stream: true }, told(directive))
      for await (const _ of stream);
    })
  }
  await assert.rejects(async () => {
    const stream = await openai.chat.completions.create({ model: 'gpt-4o', messages, stream: true }, told('error'))
    for await (const _ of stream);
  }, OpenAI.APIError)
})

test('openai: errors have their types', async () => {
  const ask = (directive) => openai.chat.completions.create({ model: 'gpt-4o', messages }, told(directive))
  await assert.rejects(ask('status=429'), OpenAI.RateLimitError)
  await assert.rejects(ask('status=500'), OpenAI.InternalServerError)
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'lr_live_nobody', maxRetries: 0 })
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError)
  await assert.rejects(openai.post('/nothing', { body: {} }), OpenAI.NotFoundError)
})

test('anthropic: a whole answer and a streamed one say the same', async () => {
  const ask = { model: 'claude-haiku-4-5', max_tokens: 100, messages }
  const whole = await anthropic.messages.create(ask)
  const stream = anthropic.messages.stream(ask)
  let text = ''
  stream.on('text', (piece) => { text += piece })
  const last = await stream.finalMessage()
  assert.equal(text, whole.content[0].text)
  assert.equal(last.usage.output_tokens, whole.usage.output_tokens)
  const counted = await anthropic.messages.countTokens({ model: ask.model, messages })
  assert.ok(counted.input_tokens >= 0)
})

test('anthropic: abort, breaks and errors', async () => {
  const ask = { model: 'claude-haiku-4-5', max_tokens: 100, messages }
  const stream = anthropic.messages.stream(ask, told('tokens=500, pace=20'))
  stream.once('text', () => stream.abort())
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError)
  await assert.rejects(anthropic.messages.stream(ask, told('cut')).finalMessage())
  await assert.rejects(anthropic.messages.create(ask, told('status=429')), Anthropic.RateLimitError)
  const stranger = new Anthropic({ baseURL: url, apiKey: 'lr_live_nobody', maxRetries: 0 })
  await assert.rejects(stranger.messages.create(ask), Anthropic.AuthenticationError)
})

test('vercel ai sdk: generated and streamed', async () => {
  const provider = createOpenAI({ baseURL: `${url}/v1`, apiKey })
  for (const model of [provider.chat('gpt-4o'), provider.responses('gpt-4o')]) {
    const whole = await generateText({ model, prompt: 'Tell me a story.', maxRetries: 0 })
    const streamed = streamText({ model, prompt: 'Tell me a story.', maxRetries: 0 })
    let text = ''
    for await (const piece of streamed.textStream) text += piece
    assert.equal(text, whole.text)
    assert.ok(text.length > 0)
    assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens)
  }
})
