import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compilePythonRegex } from '../../server/adapters/python-regex.js';

const full = (pattern: string, text: string) => compilePythonRegex(pattern).fullMatch(text);

describe('Python regular expressions', () => {
  it('match module names as re.fullmatch does', () => {
    const q = 'model.layers.11.self_attn.q_proj';
    for (const [pattern, text, expected] of [
      ['model\\.layers\\.\\d+\\.(self_attn\\.[qk]_proj|mlp\\.up_proj)', q, true],
      ['.*\\.(q|k|v|o)_proj', q, true],
      ['.*\\.(q|k|v|o)_pro', q, false],
      ['(?:.*\\.)?(?:^model\\.layers\\.11\\..*)', q, true],
      ['^(model)(?!.*(lm_head|output|emb|wte|shared)).*', q, true],
      ['^(model)(?!.*(lm_head|output|emb|wte|shared)).*', 'model.embed_tokens', false],
      ['.*(?<=self_attn)\\.q_proj', q, true],
      ['.*(?<!self_attn)\\.q_proj', q, false],
      ['(?P<kind>model)\\..*', q, true],
      ['(?i)MODEL.*', q, true],
      ['(?i:MODEL).*Q_PROJ', q, false],
      ['(?si)MODEL.*', q, true],
      ['(?i)MODEL.*(?-i:Q)_proj', q, false],
      ['(?i)MODEL.*(?-i:q)_PROJ', q, true],
      ['(?s:.*\\.q_proj)\\Z', q, true], // what fnmatch.translate makes of *.q_proj
      ['model\\.layers\\.[0-9]{1,}\\..*?q_proj$', q, true],
      ['model\\.layers\\.\\d{1}\\..*', q, false],
      ['\\bmodel\\b.*\\bq_proj\\b', q, true],
      ['[^.]+\\.layers\\.(?:9|10|11)\\.[a-z_]*\\.q.{0,5}', q, true],
      ['[]a]+', ']a]', true],
      ['a{,2}b', 'aab', true],
      ['a{,2}b', 'aaab', false],
      ['a{b', 'a{b', true],
      ['x(?#a comment)y', 'xy', true],
      ['\\x41\\u0042', 'AB', true],
      ['(a|b)|c', 'c', true],
      ['', '', true],
      ['', 'a', false],
    ] as const) {
      assert.equal(full(pattern, text), expected, `${pattern} on ${text}`);
    }
  });

  it('refuses what is broken or not supported, and says where', () => {
    for (const [pattern, message] of [
      ['(a', /not closed/],
      ['a)', /parenthesis/],
      ['[a', /ends too early/],
      ['*a', /nothing before/],
      ['a**', /quantifier on a quantifier/],
      ['a{3,2}', /reversed/],
      ['a{1,100000}', /repetitions/],
      ['(a)\\1', /back-reference/],
      ['a++', /possessive/],
      ['(?>a)', /not supported/],
      ['(?(1)a)', /not supported/],
      ['\\q', /unknown escape/],
      ['[z-a]', /range/],
      ['('.repeat(500), /nested/],
    ] as const) {
      assert.throws(() => compilePythonRegex(pattern), message, pattern);
    }
  });

  it('agree with JavaScript where both have the same syntax', () => {
    const atom = fc.constantFrom(
      'a',
      'b',
      '.',
      '\\.',
      '\\d',
      '[ab]',
      '[^a]',
      '(a|b)',
      '(?:ab|)',
      '(?=a)',
      '(?!b)',
      '\\b',
    );
    const piece = fc.tuple(atom, fc.constantFrom('', '*', '+', '?', '{2}', '{1,2}', '*?'));
    const pattern = fc
      .array(piece, { maxLength: 6 })
      .map((parts) => parts.map(([one, quantifier]) => (/^\(\?[=!]|^\\b/.test(one) ? one : one + quantifier)).join(''));
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '.', '1'), maxLength: 8 });
    fc.assert(
      fc.property(pattern, text, (source, subject) => {
        assert.equal(
          full(source, subject),
          new RegExp(`^(?:${source})$`, 's').test(subject),
          `${source} on ${subject}`,
        );
      }),
      { numRuns: 1000 },
    );
  });

  it('end on patterns that make a backtracking matcher explode', () => {
    const text = `${'a'.repeat(200)}!`;
    for (const pattern of ['(a+)+$', '(a|aa)+', '(a*)*b', '(.*.*.*.*.*)*x', '((a?){50}){50}']) {
      assert.equal(full(pattern, text), false, pattern);
    }
  });

  it('give up rather than run on when a pattern needs too many steps', () => {
    assert.throws(() => full('((((a?){1000}){1000}){1000}){1000}', 'a'.repeat(1000)), /too long/);
  });
});
