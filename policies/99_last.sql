-- Takes back what the owners needed only while functions were handed to them.

revoke create on schema public, internal from tallybook_procedures, tallybook_upkeep;
