"""Eight CPU devices for every test, as pmap needs several."""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
