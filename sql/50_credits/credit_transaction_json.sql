-- A transaction as its owner reads it.

create or replace function internal.credit_transaction_json(p_transaction public.credit_transactions)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'id', p_transaction.id, 'amount', internal.credits_json(p_transaction.amount),
    'balance_after', internal.credits_json(p_transaction.balance_after), 'transaction_type', p_transaction.transaction_type,
    'reason', p_transaction.reason, 'provider', p_transaction.provider, 'model', p_transaction.model,
    'power_level', p_transaction.power_level, 'tokens_used', p_transaction.tokens_used,
    'cost', internal.credits_json(p_transaction.cost), 'metadata', p_transaction.metadata, 'refund_of', p_transaction.refund_of,
    'created_at', p_transaction.created_at);
end
$$;
