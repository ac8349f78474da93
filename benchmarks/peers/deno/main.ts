// The peer: the same functions, over the same procedures, as a Supabase developer would write them today.
// Deno.serve, jose for tokens, postgres.js with prepared statements and a pool of 10. No logs and no metrics.
// TOKEN_CACHE=1 remembers verified tokens until they expire, as Tallybook does; 0 verifies every one.

import { createCipheriv, createHash, createHmac, randomBytes, randomInt } from "node:crypto";
import { createLocalJWKSet, jwtVerify } from "jose";
import postgres from "postgres";

type Claims = { sub?: string; role?: unknown; exp?: number };

const CACHED_TOKENS_MAX = 10_000;
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const sql = postgres(Deno.env.get("DATABASE_URL")!, { max: 10, prepare: true });
const keys = createLocalJWKSet(JSON.parse(Deno.env.get("SUPABASE_JWKS")!));
const cache = Deno.env.get("TOKEN_CACHE") === "1" ? new Map<string, Claims>() : null;
const secret = Deno.env.get("COUPON_SECRET")!;
const sealingKey = createHash("sha256").update(secret).digest();

class Refused extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

async function verify(request: Request): Promise<Claims> {
  const [scheme, token] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme !== "Bearer" || !token) throw new Refused(401, "unauthorized");
  const known = cache?.get(token);
  if (known && known.exp! * 1000 > Date.now()) return known;
  try {
    const { payload } = await jwtVerify(token, keys, { audience: "authenticated", algorithms: ["ES256"] });
    if (cache) {
      if (cache.size >= CACHED_TOKENS_MAX) cache.delete(cache.keys().next().value!);
      cache.set(token, payload as Claims);
    }
    return payload as Claims;
  } catch {
    throw new Refused(401, "unauthorized");
  }
}

function text(body: Record<string, unknown>, name: string): string {
  const value = body[name];
  if (typeof value !== "string" || value.length === 0 || value.length > 200) throw new Refused(400, `invalid_body: ${name}`);
  return value;
}

async function submit(claims: Claims, body: Record<string, unknown>) {
  const [row] = await sql`select public.submit_points_event(
      p_user_id => ${claims.sub!}, p_event_type => ${text(body, "event_type")},
      p_event_time => ${text(body, "event_time")}, p_nonce => ${text(body, "nonce")}) as answer`;
  return row.answer;
}

async function redeem(claims: Claims, body: Record<string, unknown>) {
  let code = "";
  for (let place = 0; place < 17; place++) code += ALPHABET[randomInt(32)];
  const hash = createHmac("sha256", secret).update(code).digest("hex");
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", sealingKey, nonce);
  const sealed = Buffer.concat([nonce, cipher.update(code, "utf8"), cipher.final(), cipher.getAuthTag()]).toString("base64url");
  const [row] = await sql`select public.redeem_coupon(
      p_user_id => ${claims.sub!}, p_template_id => ${text(body, "template_id")},
      p_idempotency_key => ${text(body, "idempotency_key")}, p_code_hash => ${hash},
      p_key_id => ${"00000000"}, p_sealed_code => ${sealed}) as answer`;
  const { sealed_code: _, ...answer } = row.answer;
  return { ...answer, coupon_code: code };
}

async function validate(_: Claims, body: Record<string, unknown>) {
  const [row] = await sql`select public.validate_points_events(p_event_id => ${(body.event_id as string) ?? null}) as answer`;
  return row.answer;
}

async function deduct(claims: Claims, body: Record<string, unknown>) {
  if (typeof body.amount !== "number") throw new Refused(400, "invalid_body: amount");
  const [row] = await sql`select public.deduct_credits(
      p_user_id => ${claims.sub!}, p_amount => ${body.amount}, p_idempotency_key => ${text(body, "idempotency_key")}) as answer`;
  const { account: _, ...answer } = row.answer;
  return answer;
}

const functions = new Map([
  ["/functions/v1/submit-points-event", { role: "authenticated", status: 202, call: submit }],
  ["/functions/v1/credits/deduct", { role: "authenticated", status: 200, call: deduct }],
  ["/functions/v1/redeem-coupon", { role: "authenticated", status: 200, call: redeem }],
  ["/functions/v1/validate-points-event", { role: "service_role", status: 200, call: validate }],
]);

async function answer(request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  if (path === "/livez") return Response.json({ status: "ok" });
  try {
    const found = functions.get(path);
    if (!found || request.method !== "POST") throw new Refused(404, "not_found");
    const claims = await verify(request);
    if (claims.role !== found.role) throw new Refused(403, "forbidden");
    const body = await request.json().catch(() => {
      throw new Refused(400, "invalid_body");
    });
    return Response.json(await found.call(claims, body), { status: found.status });
  } catch (error) {
    if (error instanceof Refused) return Response.json({ error: error.message }, { status: error.status });
    const state = (error as { code?: string }).code ?? "";
    const status = state.startsWith("PT") ? Number(state.slice(2)) : 500;
    return Response.json({ error: (error as Error).message }, { status });
  }
}

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT")), onListen() {} }, answer);
