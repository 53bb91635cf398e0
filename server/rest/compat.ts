/**
 * How close the HTTP/JSON routes keep to DJL Serving where it and sense differ. `strict`: places that name different
 * adapters are refused. `djl`: the original's order decides, and `X-Amzn-SageMaker-Target-Model` names no model.
 */
export type Compat = 'strict' | 'djl';
