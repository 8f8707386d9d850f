"""One construct per capability. The house's defaults are here, once; what may differ is a setting."""
