/** Plain objects of requests, answers and calls. */

/** One adapter of a mix. */
export interface WeightedAdapter {
  name: string;
  /** What the adapter's update is multiplied with: any finite number. Default 1. */
  weight?: number | undefined;
}

/**
 * Which adapters answer: a name, or a list whose updates are added up. `null`, `''` and `[]` are the base model;
 * `undefined` leaves the choice to the request's default.
 */
export type AdapterChoice = string | WeightedAdapter | readonly (string | WeightedAdapter)[] | null;

/** One message of a conversation. */
export interface ChatMessage {
  role: string;
  content: string;
}

/** How tokens are picked and when an answer ends. */
export interface GenerationParameters {
  /** Most tokens to generate. Default 30. */
  maxNewTokens?: number | undefined;
  /** 0 is greedy; above 0 tokens are drawn at random. Default 0. */
  temperature?: number | undefined;
  /** Draw from the k best tokens; 0 is off. Default 0. */
  topK?: number | undefined;
  /** Draw from the smallest set with this much probability, above 0 to 1. Default 1, off. */
  topP?: number | undefined;
  /** Drop tokens below this share of the best one's probability, 0 to 1. Default 0, off. */
  minP?: number | undefined;
  /** Divides the scores of tokens seen before, above 0. Default 1, off. */
  repetitionPenalty?: number | undefined;
  /** Subtracted from the score of every token that the answer has. Default 0. */
  presencePenalty?: number | undefined;
  /** Subtracted for every time that the answer has the token. Default 0. */
  frequencyPenalty?: number | undefined;
  /** Unsigned 32-bit seed; equal seeds give equal answers. Default: random. */
  seed?: number | undefined;
  /** Texts that end the answer. */
  stop?: readonly string[] | undefined;
  /** Tokens that end the answer. */
  stopTokenIds?: readonly number[] | undefined;
  /** True: end-of-sequence tokens do not end the answer. Default false. */
  ignoreEos?: boolean | undefined;
  /** Log-probabilities of the generated tokens and of this many alternatives. Default: none. */
  logprobs?: number | undefined;
  /** True: the text begins with the prompt. Default false. */
  returnFullText?: boolean | undefined;
  /** Answers to each input, 1 to 128. Default 1. */
  n?: number | undefined;
  /** Answers that are drawn, of which the `n` most probable per token are returned; not for streams. Default `n`. */
  bestOf?: number | undefined;
  /** Added to the scores of single tokens, by id: -100 to 100. Default none. */
  logitBias?: Readonly<Record<number, number>> | undefined;
  /** Log-probabilities of the prompt's tokens and of this many alternatives, 0 to 32. Default none. */
  promptLogprobs?: number | undefined;
  /** Use only the last tokens of the prompt, at most this many. Default the whole prompt. */
  truncate?: number | undefined;
  /** Draw from the tokens of about the expected surprise, above 0 to 1. Default 1, off. */
  typicalP?: number | undefined;
}

/** A prompt: text, token ids, or a conversation. */
export type Prompt =
  | { text: string; tokenIds?: undefined; messages?: undefined }
  | { tokenIds: readonly number[]; text?: undefined; messages?: undefined }
  | {
      messages: readonly ChatMessage[];
      /** Which of the model's chat templates renders them, where it has several; absent: its default. */
      template?: string | undefined;
      text?: undefined;
      tokenIds?: undefined;
    };

/** One input: a text, token ids, or a prompt with its own adapter and parameters. */
export type PredictInput =
  | string
  | readonly number[]
  | (Prompt & {
      /** Default: the request's. */
      adapter?: AdapterChoice | undefined;
      /** Override the request's parameters one by one. */
      parameters?: GenerationParameters | undefined;
    });

/** A request for answers. */
export interface PredictRequest {
  /** Default: the only model that is served. */
  model?: string | undefined;
  /** What to answer: one input, or several. */
  inputs: string | readonly PredictInput[];
  /** Adapters of the inputs that choose none. Default: the base model. */
  adapter?: AdapterChoice | undefined;
  parameters?: GenerationParameters | undefined;
  /** True: answers list their tokens; `logprobs` implies it. */
  returnTokens?: boolean | undefined;
  /** -100 to 100, default 0: while requests wait for a place, those of a higher priority go first. */
  priority?: number | undefined;
}

/** A request, or just what to answer. */
export type PredictParams = PredictRequest | string | readonly PredictInput[];

/** A generated token, or one of the prompt. */
export interface Token {
  id: number;
  text: string;
  logprob?: number | undefined;
  /** The best tokens at this place, best first. */
  top: { id: number; text: string; logprob: number }[];
  special: boolean;
}

/** Why an answer ended. */
export type FinishReason = 'eos' | 'stop' | 'length' | 'cancelled';

/** Proof of what answered, by content. */
export interface Receipt {
  model: string;
  baseFingerprint: string;
  /** In the order of the request; empty = base model. */
  adapters: {
    /** As the request named it. */
    name: string;
    digest: string;
    weight: number;
    /** The adapter that the name led to, where it is an alias. */
    resolved?: string;
  }[];
  requestId: string;
}

/** An answer to one input. */
export interface PredictResult {
  inputIndex: number;
  /** Which of the input's answers, from 0. */
  sampleIndex: number;
  text: string;
  finishReason: FinishReason;
  stopString?: string | undefined;
  /** `cachedTokens` of the prompt were known to the server from earlier requests and cost next to nothing. */
  usage: { promptTokens: number; completionTokens: number; cachedTokens: number };
  timings: { queueMs: number; prefillMs: number; decodeMs: number };
  receipt: Receipt;
  /** The seed that was used. */
  seed: number;
  /** Empty unless asked for. */
  tokens: Token[];
  /** Empty unless their log-probabilities were asked for; the first has none. */
  promptTokens: Token[];
}

/** The answers to a request. */
export interface PredictResponse {
  /** In the order of the inputs, and of the answers to each. */
  results: PredictResult[];
  /** Text of the first result. */
  text: string;
  /** Id of the request in the log of the server. */
  requestId: string;
}

/** One event of a stream. */
export type StreamEvent =
  | { type: 'delta'; inputIndex: number; sampleIndex: number; text: string; tokens: Token[] }
  | { type: 'final'; inputIndex: number; sampleIndex: number; result: PredictResult };

/** Options of one call; they win over those of the client. */
export interface CallOptions {
  /** Cancels the call, on the server too. */
  signal?: AbortSignal | undefined;
  /** Budget of the whole call, retries included. */
  timeoutMs?: number | undefined;
  /** How often to try again; 0 is never. */
  maxRetries?: number | undefined;
  /** Further request headers. */
  headers?: Record<string, string> | undefined;
}
