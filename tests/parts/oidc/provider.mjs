// A certified OpenID Connect provider on a loopback port, for the tests: node provider.mjs PORT
//
// It has a machine client (client_credentials) and one for people (authorization code with PKCE). Signing in is a login and a
// consent page that answer at once, as the account that `login_hint` names. Under /test/ stands what a test does to a provider:
// sign in over HTTP as a browser would, rotate its keys, sign a token with what it has, count how often its keys are asked for.
import { createServer } from "node:http";
import { createHash, randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The packages lie in the part's own folder and not beside this file.
const require = createRequire(`${process.env.OIDC_PARTS}/package.json`);
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { Provider } = await load("oidc-provider");
const jose = await load("jose");

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const redirectUri = "http://127.0.0.1:1/callback";
const people = { fiona: ["llm-finance"], olu: ["llm-oncall"], nora: ["somewhere-else"], rita: ["llm-readers"] };
const machines = { shipper: ["llm-publishers"] };
let generation = 0;
let jwksAsked = 0;
let keys;
let provider;
let handle;

async function newKeys() {
  generation += 1;
  const make = async (alg, options) => {
    const pair = await jose.generateKeyPair(alg, { extractable: true, ...options });
    return { ...(await jose.exportJWK(pair.privateKey)), kid: `${alg}-${generation}`, alg, use: "sig" };
  };
  return [await make("RS256"), await make("ES256"), await make("EdDSA", { crv: "Ed25519" })];
}

function makeProvider() {
  const made = new Provider(issuer, {
    jwks: { keys },
    clients: [
      { client_id: "shipper", client_secret: "shipper-secret", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] },
      { client_id: "console", token_endpoint_auth_method: "none", grant_types: ["authorization_code"], redirect_uris: [redirectUri] },
    ],
    cookies: { keys: ["only for tests"] },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "EdDSA"] },
    pkce: { required: () => true },
    findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => ({
          // The name of the resource says which algorithm its tokens are signed with, and for whom they are.
          scope: "ledger",
          audience: resource.endsWith("/other") ? "other" : "govledger",
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
          jwt: { sign: { alg: resource.match(/(RS256|ES256|EdDSA)/)?.[1] ?? "RS256" } },
        }),
      },
    },
    extraTokenClaims: (ctx, token) => {
      const code = ctx.oidc.entities.AuthorizationCode;
      const roles = people[token.accountId] ?? machines[token.clientId] ?? [];
      return code ? { groups: { llm: roles }, auth_time: code.authTime, amr: code.amr ?? ["pwd"], acr: code.acr } : { groups: { llm: roles } };
    },
  });
  return made;
}

async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === "login") {
    const login = { accountId: params.login_hint, amr: ["pwd"] };
    return provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
  }
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope("openid");
  grant.addResourceScope(params.resource, "ledger");
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

// What a browser does: follows redirects with its cookies until it is sent back with a code.
const jars = new Map();
async function signIn({ account, resource, maxAge }) {
  const jar = jars.get(account) ?? new Map();
  jars.set(account, jar);
  const verifier = randomBytes(32).toString("base64url");
  const query = new URLSearchParams({
    client_id: "console", response_type: "code", scope: "openid ledger", redirect_uri: redirectUri, resource, login_hint: account,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"), code_challenge_method: "S256",
    ...(maxAge === undefined ? {} : { max_age: String(maxAge) }),
  });
  let url = `${issuer}/auth?${query}`;
  for (let step = 0; step < 12 && !url.startsWith(redirectUri); step += 1) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(url, { redirect: "manual", headers: { cookie } });
    for (const set of answer.headers.getSetCookie()) {
      const [pair, ...attributes] = set.split(";");
      const [name, value] = [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)];
      if (value === "" || attributes.some((text) => /expires=.*1970/i.test(text))) jar.delete(name);
      else jar.set(name, value);
    }
    const location = answer.headers.get("location");
    if (!location) throw new Error(`no way on from ${url}: ${answer.status} ${await answer.text()}`);
    url = new URL(location, url).href;
  }
  const code = new URL(url).searchParams.get("code");
  if (!code) throw new Error(`no code in ${url}`);
  const body = new URLSearchParams({ grant_type: "authorization_code", client_id: "console", code, redirect_uri: redirectUri, code_verifier: verifier, resource });
  const answer = await fetch(`${issuer}/token`, { method: "POST", body });
  if (answer.status !== 200) throw new Error(`token endpoint: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

// A token that no provider would give: any header and claims, under the private key `kid`, or under a public key as if it were
// the secret of an HMAC.
async function sign({ header, claims, kid, secretFrom }) {
  const jwk = keys.find((key) => key.kid === (kid ?? secretFrom));
  if (secretFrom) {
    const pem = await jose.exportSPKI(await jose.importJWK({ kty: jwk.kty, n: jwk.n, e: jwk.e, alg: "RS256" }, "RS256", { extractable: true }));
    return new jose.SignJWT(claims).setProtectedHeader(header).sign(new TextEncoder().encode(pem));
  }
  return new jose.SignJWT(claims).setProtectedHeader(header).sign(await jose.importJWK(jwk, jwk.alg));
}

async function test(path, body) {
  switch (path) {
    case "/test/sign-in": return signIn(body);
    case "/test/sign": return { token: await sign(body) };
    case "/test/kids": return { kids: keys.map((key) => key.kid) };
    case "/test/asked": return { asked: jwksAsked };
    case "/test/rotate":
      keys = await newKeys();
      jars.clear();
      provider = makeProvider();
      handle = provider.callback();
      return { kids: keys.map((key) => key.kid) };
    default: throw new Error(`there is no ${path}`);
  }
}

async function serve(request, response) {
  const path = new URL(request.url, issuer).pathname;
  if (path.startsWith("/test/")) {
    let text = "";
    for await (const part of request) text += part;
    const answer = await test(path, text ? JSON.parse(text) : {});
    response.setHeader("content-type", "application/json");
    return response.end(JSON.stringify(answer));
  }
  if (path.startsWith("/interaction/")) return interact(request, response);
  if (path === "/jwks") jwksAsked += 1;
  return handle(request, response);
}

keys = await newKeys();
provider = makeProvider();
handle = provider.callback();
createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    response.statusCode = 500;
    response.end(String(error));
  });
}).listen(port, "127.0.0.1", () => console.log(`serving ${issuer}`));
