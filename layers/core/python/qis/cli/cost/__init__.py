"""What an environment costs each month: its bill of quantities, a model of its traffic, a table of prices."""
