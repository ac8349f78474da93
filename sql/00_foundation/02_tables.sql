-- The foundation's tables and types. Runs once.

create table internal.refusals (
  code   text primary key check (code ~ '^[a-z][a-z_]*$'),
  status int  not null check (status between 400 and 599),
  title  text not null,
  hint   text
);

comment on table internal.refusals is
  'The one catalogue of everything Tallybook refuses: the code a client sees, its HTTP status, and what to do about it.';

-- What every set-based core returns for each request, in the request's place: an answer, or a refusal.
create type internal.outcome as (
  position int,    -- 1 is the first request of the batch
  answer   jsonb,  -- null when refused
  refusal  jsonb   -- {code, status, detail, hint}; null when answered
);
