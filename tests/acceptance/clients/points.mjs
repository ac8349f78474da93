// Walks the main road with the real supabase-js and prints what it met, as one JSON object.
// Environment: URL, PUBLISHABLE_KEY, SECRET_KEY, ALICE_TOKEN, ALICE, BOB, TEMPLATE.

import { createClient } from "@supabase/supabase-js";

const { URL: url, PUBLISHABLE_KEY, SECRET_KEY, ALICE_TOKEN, ALICE, BOB, TEMPLATE } = process.env;
const quiet = { auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false } };

const alice = createClient(url, PUBLISHABLE_KEY, { ...quiet, accessToken: async () => ALICE_TOKEN });
const anon = createClient(url, PUBLISHABLE_KEY, quiet);
const service = createClient(url, SECRET_KEY, quiet);

// An answer, or the problem that functions.invoke puts into error.context.
async function invoke(client, name, body) {
  const { data, error, response } = await client.functions.invoke(name, { body });
  if (!error) return { status: response.status, replayed: response.headers.get("idempotent-replayed"), data };
  const context = error.context;
  return { status: context.status, type: context.headers.get("content-type"), problem: await context.json() };
}

// Rows, or the code that PostgREST refused with.
async function rows(query) {
  const { data, error, status } = await query;
  return error ? { status, code: error.code } : { status, data };
}

const event = { event_type: "workout", event_time: new Date().toISOString(), nonce: "nonce-of-alice-0001" };
const row = { user_id: ALICE, event_type: "workout", event_time: event.event_time, points_delta: 1000, payload_hash: "x" };

const met = {};
met.submitted = await invoke(alice, "submit-points-event", event);
met.replayed = await invoke(alice, "submit-points-event", event);
met.reused = await invoke(alice, "submit-points-event", { ...event, event_type: "goal_achieved" });
met.malformed = await invoke(alice, "submit-points-event", { ...event, points_delta: 1000 });
met.validation_by_alice = await invoke(alice, "validate-points-event", {});
met.validation_by_anon = await invoke(anon, "validate-points-event", {});
met.validation_by_service = await invoke(service, "validate-points-event", {});
met.submission_by_anon = await invoke(anon, "submit-points-event", event);
met.submission_by_service = await invoke(service, "submit-points-event", event);
met.redeemed = await invoke(alice, "redeem-coupon", { template_id: TEMPLATE, idempotency_key: "key-of-alice-0001" });
met.redeemed_again = await invoke(alice, "redeem-coupon", { template_id: TEMPLATE, idempotency_key: "key-of-alice-0001" });
met.too_dear = await invoke(alice, "redeem-coupon", { template_id: TEMPLATE, idempotency_key: "key-of-alice-0002" });

met.rpc = {};
for (const client of [["alice", alice], ["anon", anon]]) {
  const call = client[1].rpc("submit_points_event", {
    p_user_id: BOB, p_event_type: "workout", p_event_time: event.event_time, p_nonce: "nonce-of-bob-000001",
  });
  met.rpc[client[0]] = await rows(call);
}

met.own_events = await rows(alice.from("points_events").select("user_id, event_type, validation_status").order("created_at"));
met.own_balance = await rows(alice.from("user_points_cache").select("user_id, available_points"));
met.own_coupons = await rows(alice.from("coupons").select("issued_to, issued_points_cost"));
met.bobs_events = await rows(alice.from("points_events").select("id").eq("user_id", BOB));
met.bobs_events_by_service = await rows(service.from("points_events").select("user_id").eq("user_id", BOB));
met.offers = await rows(alice.from("coupon_templates").select("template_id"));
met.events_by_anon = await rows(anon.from("points_events").select("id"));
met.nonces = await rows(alice.from("used_nonces").select("nonce"));
met.policies = await rows(alice.from("trust_policies").select("policy_id"));

met.written = {
  event: await rows(alice.from("points_events").insert(row)),
  balance: await rows(alice.from("user_points_cache").update({ available_points: 1000 }).eq("user_id", ALICE)),
  status: await rows(alice.from("points_events").update({ validation_status: "validated" }).eq("user_id", ALICE)),
  deleted: await rows(alice.from("points_events").delete().eq("user_id", ALICE)),
  upserted: await rows(alice.from("user_points_cache").upsert({ user_id: ALICE, available_points: 1000 })),
  coupon: await rows(alice.from("coupons").update({ expires_at: "2099-01-01" }).eq("issued_to", ALICE)),
  offer: await rows(alice.from("coupon_templates").update({ points_cost: 1 }).eq("template_id", TEMPLATE)),
  event_by_anon: await rows(anon.from("points_events").insert(row)),
  event_by_service: await rows(service.from("points_events").insert(row)),
};

console.log(JSON.stringify(met));
