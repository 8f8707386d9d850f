DROP FUNCTION end_horizon_holder(text, integer), horizon_holder();
