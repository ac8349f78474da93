-- The catalogue's entries. Applied again and again: this list is what the table holds.

with entry (code, status, title, hint) as (
  values
    -- the corridor, before any procedure is called
    ('invalid_body',          400, 'The request body is not valid', 'Correct the value at the given path.'),
    ('body_too_large',        413, 'The request body is too large', 'Send less at once.'),
    ('unauthorized',          401, 'A valid access token is required', 'Sign in and send the access token as a bearer token.'),
    ('forbidden',             403, 'The caller may not do this', null),
    ('not_found',             404, 'There is nothing at this address', null),
    ('method_not_allowed',    405, 'This method is not allowed here', null),
    ('unavailable',           503, 'The service cannot answer right now', 'Try again after the time given in Retry-After.'),
    ('internal_error',        500, 'Something went wrong on our side', 'Report the request id.'),
    ('rate_limited',          429, 'There were too many requests', 'Try again after the time given in Retry-After.'),
    ('reason_required',       400, 'This must be given a reason', 'Say why: it is kept in the audit log.'),
    -- device attestation
    ('attestation_failed',    403, 'The device''s attestation is not valid', 'Ask for a new challenge and attest the request again.'),
    ('device_key_taken',      409, 'This device key was registered already', 'Make a new key on the device.'),
    -- the ledger
    ('insufficient_funds',    400, 'The account does not hold enough', null),
    ('invalid_amount',        400, 'The amount must be greater than zero', null),
    ('hold_not_found',        404, 'There is no such hold', null),
    ('hold_reused',           409, 'This hold was made with another amount or account', 'Make a new id for every new hold.'),
    ('hold_closed',           409, 'The hold was already settled, released or expired', null),
    ('hold_exceeded',         400, 'More cannot be settled than was held', null),
    -- points
    ('nonce_reused',          409, 'This nonce was used for another request', 'Make a new nonce for every new request.'),
    ('unknown_event_type',    400, 'There is no such event type', 'See the points rules for the event types there are.'),
    ('event_type_not_submittable', 403, 'Only the server records events of this type', null),
    ('event_in_future',       400, 'The event lies in the future', 'Check the clock of the device.'),
    ('event_too_old',         400, 'The event lies too far back', null),
    ('event_not_found',       404, 'There is no such event', null),
    ('event_frozen',          409, 'A validated event does not change', 'Correct it with an opposite event.'),
    ('invalid_transition',    409, 'An event does not go from this status to that one', null),
    ('proof_type_not_accepted', 400, 'This kind of proof does not count for this event', 'See the points rules for what is accepted.'),
    ('invalid_points',        400, 'These are no points to award', null),
    -- review
    ('own_event',             403, 'Nobody decides what is their own', 'Ask another administrator.'),
    ('already_reviewed',      409, 'Somebody else has decided this already', null),
    ('not_reviewable',        409, 'This does not wait for a review', null),
    ('insight_not_found',     404, 'There is no such insight', null),
    ('already_resolved',      409, 'Somebody else has resolved this already', null),
    -- coupons
    ('template_not_found',    404, 'There is no such coupon on offer', null),
    ('coupon_limit_reached',  403, 'This user has redeemed this coupon as often as allowed', null),
    ('template_exhausted',    409, 'There are none of this coupon left', null),
    ('coupon_not_valid',      404, 'This code is not valid', 'Check the code for a typing error.'),
    ('coupon_not_found',      404, 'There is no such coupon', null),
    ('coupon_used',           409, 'This coupon was used already', null),
    ('coupon_revoked',        409, 'This coupon was revoked', null),
    ('coupon_held',           409, 'This coupon is held for another purchase', 'Try again later.'),
    ('coupon_not_held',       409, 'This coupon is not held under this key', null),
    ('coupon_refunded',       409, 'The points of this coupon were given back already', null),
    ('insufficient_points',   400, 'There are not enough points for this coupon', 'Earn more points and try again.'),
    -- tenants
    ('tenant_not_found',      404, 'Tenant not found', null),
    ('insufficient_pool',     400, 'The company allocation pool does not hold enough', 'Ask a platform administrator to allocate more.'),
    ('insufficient_budget',   400, 'The budget does not hold enough', null),
    ('insufficient_wallet',   400, 'The wallet does not hold enough', null),
    ('self_recognition',      400, 'Nobody recognizes themselves', null),
    ('recipient_not_found',   404, 'There is no such member of this tenant', null),
    ('recognition_not_found', 404, 'There is no such recognition', null),
    ('department_cap_reached', 400, 'The department has given what it may this month', null),
    ('peer_to_peer_off',      403, 'Members do not give points to one another here', null),
    ('redemptions_paused',    409, 'Redemptions are paused', null),
    ('reward_not_found',      404, 'There is no such reward', null),
    ('reward_out_of_stock',   409, 'There are none of this reward left', null),
    ('allocation_not_found',  404, 'There is no such allocation', null),
    ('department_not_found',  404, 'There is no such department', null),
    ('redemption_not_found',  404, 'There is no such redemption', null),
    ('not_reversible',        409, 'This cannot be taken back any more', null),
    -- credits
    ('insufficient_credits',  402, 'There are not enough credits', 'Buy credits and try again.'),
    ('monthly_cap_reached',   429, 'This would exceed the monthly cap', 'Raise the cap, or wait for the next month.'),
    ('price_unknown',         400, 'No price is known for this model', 'Name a model or a provider that has a price.'),
    ('unknown_tier',          400, 'There is no such tier', null),
    ('prices_in_force',       409, 'Prices in force do not change', 'Publish new ones.'),
    ('user_not_found',        404, 'There is no such user', null),
    ('transaction_not_found', 404, 'There is no such transaction', null),
    ('not_refundable',        409, 'Only usage is refunded', null),
    ('refund_exceeded',       400, 'More cannot be refunded than was charged', null),
    ('reservation_not_found', 404, 'There is no such reservation', null),
    ('reservation_closed',    409, 'The reservation was already settled, released or expired', null),
    ('package_not_found',     404, 'There is no such package', null),
    ('payment_mismatch',      409, 'Less was paid than is due', 'Compare the payment with amount_due.'),
    ('promotion_exists',      409, 'There is another promotion under this code', 'Choose another code.'),
    ('promotion_not_found',   404, 'There is no such promotion', null),
    ('account_not_found',     404, 'No such account is connected', 'Connect it first.'),
    ('provider_key_rejected', 400, 'The provider does not accept this key', 'Make a new key at the provider and connect it.'),
    ('credits_owed',          409, 'The account owes credits', 'Pay what is owed first.')
), kept as (
  insert into internal.refusals as r (code, status, title, hint)
  select e.code, e.status, e.title, e.hint from entry as e
  on conflict (code) do update
     set status = excluded.status, title = excluded.title, hint = excluded.hint
)
delete from internal.refusals as r
 where not exists (select from entry as e where e.code = r.code);
