"""Who made an artifact, and whether that is enough: keys, signatures, and the policy that names them."""
