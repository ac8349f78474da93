-- What review_points_event answers, the first time and every other.

create or replace function internal.points_review_answer(
  p_event    public.points_events,
  p_review   public.points_reviews,
  p_replayed boolean
)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'event_id', p_review.event_id, 'user_id', p_review.user_id, 'decision', p_review.decision,
    'validation_status', case p_review.decision when 'approved' then 'validated' else 'rejected' end,
    'points_awarded', case p_review.decision when 'approved' then p_event.points_delta else 0 end,
    'trust_score', p_event.trust_score, 'reviewed_by', p_review.reviewed_by, 'replayed', p_replayed);
end
$$;
