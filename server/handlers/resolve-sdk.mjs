// Hooks of a handler's thread: `@loramux/sdk/handler` is the installed package where there is one, else this server's own;
// and a .ts file is a module, whether or not a package.json beside it says so.
const SDK = '@loramux/sdk/handler';

const ownOf = (source) =>
  new URL(source.endsWith('.ts') ? '../../sdk/handler.ts' : '../../sdk/handler.js', source).href;

const asModule = (resolved) =>
  /\.ts$/.test(resolved.url.replace(/[?#].*$/, '')) ? { ...resolved, format: 'module' } : resolved;

const isMissing = (specifier, error) => specifier === SDK && error.code === 'ERR_MODULE_NOT_FOUND';

/**
 * The hook `resolve` of `registerHooks`, which runs in the thread itself.
 * @param source address of a module of this server
 */
export function resolverOf(source) {
  const own = ownOf(source);
  return (specifier, context, next) => {
    try {
      return asModule(next(specifier, context));
    } catch (error) {
      if (!isMissing(specifier, error)) throw error;
      return next(own, context);
    }
  };
}

// What follows is for `register`, which runs hooks in a thread of their own: all that Node 20 has.
let own;

export function initialize({ source }) {
  own = ownOf(source);
}

export async function resolve(specifier, context, next) {
  try {
    return asModule(await next(specifier, context));
  } catch (error) {
    if (!isMissing(specifier, error)) throw error;
    return next(own, context);
  }
}
